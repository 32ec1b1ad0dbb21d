from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from terraflow.eo.config.labels import Checks
from terraflow.eo.config.sections import Features
from terraflow.eo.samples.data_report import DataReport, Tally, check_data, count
from terraflow.errors import ConfigError, DataError

FEATURES = Features()


def cube(*dates: tuple[str, list[float]]) -> xr.Dataset:
    values = np.array([values for _, values in dates], "float32")[:, None, :]
    coords = {"time": pd.to_datetime([day for day, _ in dates])}
    red = xr.DataArray(values, dims=("time", "y", "x"), coords=coords)
    return xr.Dataset({"red": red}).assign_coords(observed=xr.ones_like(red, dtype=bool))


DATA = cube(("2024-04-01", [0.1, np.nan]), ("2024-04-20", [0.3, 1.5]), ("2024-05-01", [0.2, 0.4]))


def test_count_by_hand() -> None:
    tally = count(DATA, FEATURES, Checks(value_range={"red": (0, 1)}))
    assert tally.clear == {"2024-04": 3, "2024-05": 2}
    assert tally.seen == {"2024-04": 4, "2024-05": 2}
    assert tally.low["red"] == pytest.approx(0.1)
    assert tally.high["red"] == pytest.approx(1.5)
    assert tally.outside["red"] == 1
    assert tally.values["red"] == 5


def test_tally_adds_windows() -> None:
    checks = Checks(value_range={"red": (0, 1)})
    parts = Tally()
    for x in (0, 1):
        parts.add(count(DATA.isel(x=[x]), FEATURES, checks))
    assert parts == count(DATA, FEATURES, checks)


def test_check_data_clear_share_names_period_and_share() -> None:
    checks = Checks(min_clear_share=0.8)
    with pytest.raises(DataError, match=r"period 2024-04 has 0\.750 of its observations clear"):
        check_data(count(DATA, FEATURES, checks), {}, checks, FEATURES)


def test_check_data_label_counts_names_class_and_size() -> None:
    checks = Checks(min_samples_per_class=10)
    with pytest.raises(DataError, match="water has 9 labelled pixels"):
        check_data(Tally(), {"water": 9, "forest": 10}, checks, FEATURES)


def test_count_takes_an_index_outside_its_range_for_outside() -> None:
    """EVI's denominator comes near zero at the first date."""
    values = {"blue": [0.2, 0.03], "red": [0.05, 0.04], "nir": [0.2005, 0.4]}
    times = {"time": pd.to_datetime(["2024-04-01", "2024-04-02"])}
    data = xr.Dataset(
        {
            name: (("time", "y", "x"), np.array(v, "float32")[:, None, None])
            for name, v in values.items()
        },
        coords=times,
    )
    data = data.assign_coords(observed=xr.ones_like(data["red"], dtype=bool))
    features = Features(indices=["EVI"])
    tally = count(data, features, Checks())
    assert tally.values["evi"] == 2
    assert tally.outside["evi"] == 1
    with pytest.raises(DataError, match=r"evi has 0\.500 .* outside -1 to 1 \(those that count"):
        check_data(tally, {}, Checks(), features)
    wider = Checks(value_range={"evi": (-2, 2)})  # does not bring back what the index lacks
    assert count(data, features, wider).outside["evi"] == 1


def test_check_data_value_range_names_share_and_span() -> None:
    checks = Checks(value_range={"red": (0, 1)})
    with pytest.raises(DataError, match=r"red has 0\.200 .* outside 0 to 1 .*0\.1 to 1\.5"):
        check_data(count(DATA, FEATURES, checks), {}, checks, FEATURES)


def test_check_data_names_all_at_once() -> None:
    checks = Checks(value_range={"red": (0, 1)}, min_clear_share=0.8, min_samples_per_class=9)
    with pytest.raises(DataError, match=r"period .*; water has 1 .*; red has "):
        check_data(count(DATA, FEATURES, checks), {"water": 1}, checks, FEATURES)


def test_check_data_without_thresholds_passes() -> None:
    check_data(count(DATA, FEATURES, Checks()), {"water": 1}, Checks(), FEATURES)


def test_count_range_of_an_unknown_band_is_refused() -> None:
    with pytest.raises(ConfigError, match="value_range names rde, which is none of red"):
        count(DATA, FEATURES, Checks(value_range={"rde": (0, 1)}))


def test_count_leaves_pixels_beyond_the_images_out() -> None:
    data = DATA.assign_coords(observed=DATA["observed"] & (DATA["red"] != 0.3))
    assert count(data, FEATURES, Checks()).seen == {"2024-04": 3, "2024-05": 2}


def test_check_data_class_without_a_pixel_is_refused() -> None:
    with pytest.raises(DataError, match="water has labels in the images, but no pixel"):
        check_data(Tally(), {"water": 0, "forest": 10}, Checks(), FEATURES)


def test_data_report_of_before_names_its_counts_as_today() -> None:
    older = {
        "features": ["red_all"],
        "periods": ["all"],
        "clear_share": {"all": 1.0},
        "value_range": {"red": [0.1, 0.2]},
        "outside_range": {},
        "class_sizes": {"water": 7},
        "grid": {"crs": "EPSG:32633"},
        "data_digest": "feed",
        "simulated": False,
    }
    report = DataReport.model_validate(older)
    assert report.label_counts == {"water": 7}
    assert DataReport.model_validate(report.to_dict()) == report
