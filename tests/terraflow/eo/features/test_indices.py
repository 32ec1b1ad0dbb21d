from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from terraflow.eo.features.indices import add_indices, check_indices
from terraflow.errors import ConfigError


def bands(**values: float) -> xr.Dataset:
    return xr.Dataset(
        {
            name: (("time", "y", "x"), np.full((1, 1, 1), value, "float32"))
            for name, value in values.items()
        }
    )


def test_add_indices_by_hand() -> None:
    found = add_indices(bands(red=0.1, nir=0.3), ["NDVI", "SAVI"], {"L": 0.5})
    assert list(found) == ["red", "nir", "ndvi", "savi"]
    assert found["ndvi"].item() == pytest.approx(0.2 / 0.4)
    assert found["savi"].item() == pytest.approx(1.5 * 0.2 / (0.1 + 0.3 + 0.5))
    assert found["ndvi"].dtype == "float32"


def test_add_indices_division_by_zero_is_missing() -> None:
    assert np.isnan(add_indices(bands(red=-0.1, nir=0.1), ["NDVI"], {})["ndvi"].item())


def test_add_indices_landsats_near_infrared_stands_for_nir() -> None:
    check_indices(["NDVI"], ["red", "nir08"], {})
    found = add_indices(bands(red=0.1, nir08=0.3), ["NDVI"], {})
    assert found["ndvi"].item() == pytest.approx(0.5)
    both = add_indices(bands(nir08=0.9, red=0.1, nir=0.3), ["NDVI"], {})
    assert both["ndvi"].item() == pytest.approx(0.5)


def test_add_indices_red_edge_by_common_names() -> None:
    edges = bands(rededge071=0.1, rededge075=0.2, rededge078=0.4, nir08=0.5, red=0.1)
    found = add_indices(edges, ["NDREI", "IRECI"], {})
    assert found["ndrei"].item() == pytest.approx((0.5 - 0.1) / (0.5 + 0.1))
    assert found["ireci"].item() == pytest.approx((0.4 - 0.1) / (0.1 / 0.2), rel=1e-5)


def test_check_indices_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Index NDVJ is not known; did you mean .*NDVI"):
        check_indices(["NDVJ"], ["red"], {})


def test_check_indices_lower_case_gives_the_right_name() -> None:
    with pytest.raises(ConfigError, match=r"did you mean NDVI"):
        check_indices(["ndvi"], ["red", "nir"], {})


def test_check_indices_without_its_band_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Index NDVI needs nir; \[data.bands\] has red"):
        check_indices(["NDVI"], ["red"], {})
