from __future__ import annotations

import numpy as np
import pytest
import spyndex
import xarray as xr

from terraflow.eo.features.indices import LETTERS, add_indices, check_indices, index_range
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


@pytest.mark.parametrize(
    ("red", "nir"), [(-0.1, 0.1), (0, 0), (1e-4, -1e-4), (-0.0021, 0.002), (0.05, -0.0499999)]
)
def test_normalised_difference_of_dark_reflectance_stays_within_its_range(
    red: float, nir: float
) -> None:
    found = add_indices(bands(red=red, nir=nir), ["NDVI"], {})
    assert abs(found["ndvi"].item()) <= 1
    assert found["red"].item() == np.float32(red)  # the bands stay as they are


def noise(seed: int = 0) -> xr.Dataset:
    """Every optical band, about zero as over dark water, and up to 1."""
    random = np.random.default_rng(seed)
    names = [name for name in LETTERS if not name.startswith("lwir")]
    values = np.concatenate([random.normal(0, 0.01, 3000), random.uniform(0, 1, 3000)])
    return xr.Dataset(
        {
            name: (("time", "y", "x"), random.permutation(values).astype("float32")[None, None])
            for name in names
        }
    )


def computable() -> list[str]:
    have = {LETTERS[str(name)] for name in noise().data_vars} | {
        key for key, constant in spyndex.constants.items() if constant.default is not None
    }
    return [name for name, index in spyndex.indices.items() if set(index.bands) <= have]


def test_every_index_stays_within_its_range_whatever_the_reflectances() -> None:
    names = computable()
    assert len(names) > 200
    cube = noise()
    for name in names:
        low, high = index_range(name, {})
        values = add_indices(cube, [name], {})[name.lower()].values
        values = values[np.isfinite(values)]
        assert values.size > 100, name
        assert low <= values.min() + 1e-5 * abs(low), name
        assert values.max() <= high + 1e-5 * abs(high), name


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        *[(name, -1, 1) for name in ("NDVI", "NDWI", "NBR", "SAVI", "EVI", "GARI", "IBI", "VARI")],
        ("EVI2", -0.8, 1.3),
    ],
)
def test_index_range_is_that_of_its_definition(name: str, low: float, high: float) -> None:
    assert index_range(name, {}) == pytest.approx((low, high), abs=0.1)


@pytest.mark.parametrize(
    ("name", "usual"),
    # dense vegetation, bare soil, water: red and nir as in spectral libraries
    [("SR", 0.5 / 0.02), ("CIG", 0.5 / 0.05 - 1), ("SR", 0.25 / 0.2), ("SR", 0.01 / 0.03)],
)
def test_index_range_of_a_ratio_holds_what_surfaces_have(name: str, usual: float) -> None:
    low, high = index_range(name, {})
    assert low < usual < high < 100


def test_index_range_follows_its_constants() -> None:
    assert index_range("SAVI", {"L": 0}) == (-1, 1)
    narrow, wide = index_range("NDSInw", {"beta": 0.01}), index_range("NDSInw", {"beta": 0.3})
    assert narrow[0] > wide[0]


def test_index_outside_its_range_is_missing_for_that_index_alone() -> None:
    # the denominator of EVI is 0.0005 here, and the quotient 1500
    pole = bands(blue=0.2, red=0.05, nir=0.2005)
    found = add_indices(pole, ["EVI", "NDVI"], {})
    assert np.isnan(found["evi"].item())
    assert found["ndvi"].item() == pytest.approx(0.1505 / 0.2505)


def test_index_of_a_missing_band_is_missing() -> None:
    assert np.isnan(add_indices(bands(red=np.nan, nir=0.1), ["NDVI"], {})["ndvi"].item())


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


def test_check_indices_that_differ_in_case_alone_are_refused() -> None:
    told = r"BAI and BaI would both be the feature bai; take one of them"
    with pytest.raises(ConfigError, match=told):
        check_indices(["BAI", "BaI"], ["red", "nir", "swir16"], {})


@pytest.mark.parametrize("band", ["ndvi", "NDVI"])
def test_check_indices_with_the_name_of_a_band_are_refused(band: str) -> None:
    with pytest.raises(ConfigError, match="NDVI would have the name of the band"):
        check_indices(["NDVI"], ["red", "nir", band], {})


def test_check_indices_without_its_band_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Index NDVI needs nir; \[data.bands\] has red"):
        check_indices(["NDVI"], ["red"], {})
