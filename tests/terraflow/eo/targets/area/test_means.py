"""The mean of numbers and the map's errors from a sample, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from terraflow.eo.targets.area.design import Design, Stratum
from terraflow.eo.targets.area.means import estimate_means, mean_rows, overall_spread
from terraflow.errors import DataError

#: Three quarters and a quarter of the area.
STRATA = {
    "low": Stratum(pixels=30, area_m2=3000, mean=2, spread=1),
    "high": Stratum(pixels=10, area_m2=1000, mean=12, spread=2),
}
SAMPLE = pd.DataFrame(
    {
        "stratum": ["low", "low", "high", "high"],
        "mapped": [2.0, 3.0, 11.0, 11.0],
        "reference": [1.0, 3.0, 10.0, 14.0],
    }
)


def test_mean_bias_and_rmse_are_those_worked_by_hand() -> None:
    found = estimate_means(SAMPLE, STRATA)
    told = found["measures"]
    assert found["map_mean"] == pytest.approx(0.75 * 2 + 0.25 * 12)
    assert told["mean"]["value"] == pytest.approx(0.75 * 2 + 0.25 * 12)
    # W2 (1 - n / N) s2 / n of each stratum
    parts = np.array([0.75**2 * (28 / 30) * 2 / 2, 0.25**2 * (8 / 10) * 8 / 2])
    assert told["mean"]["standard_error"] == pytest.approx(math.sqrt(parts.sum()))
    freedom = parts.sum() ** 2 / (parts**2).sum()
    margin = t.ppf(0.975, freedom) * math.sqrt(parts.sum())
    assert told["mean"]["low"] == pytest.approx(4.5 - margin)
    assert told["mean"]["high"] == pytest.approx(4.5 + margin)
    assert told["mean"]["high"] > 1  # nothing is clipped to shares
    assert told["bias"]["low"] < 0
    # errors 1, 0 and 1, -3
    assert told["bias"]["value"] == pytest.approx(0.75 * 0.5 - 0.25 * 1)
    parts = np.array([0.75**2 * (28 / 30) * 0.5 / 2, 0.25**2 * (8 / 10) * 8 / 2])
    assert told["bias"]["standard_error"] == pytest.approx(math.sqrt(parts.sum()))
    assert told["rmse"]["value"] == pytest.approx(math.sqrt(0.75 * 0.5 + 0.25 * 5))
    assert told["rmse"]["low"] == 0


def test_mean_with_the_map_is_the_maps_mean_less_its_bias() -> None:
    told = estimate_means(SAMPLE, STRATA)["measures"]
    bias, mean = told["bias"], told["mean_with_map"]
    assert mean["value"] == pytest.approx(4.5 - bias["value"])
    assert mean["low"] == pytest.approx(4.5 - bias["high"])
    assert mean["high"] == pytest.approx(4.5 - bias["low"])
    assert 0 < mean["standard_error"] == bias["standard_error"]


def test_map_that_is_off_by_the_same_everywhere_has_no_interval_but_its_bias() -> None:
    sample = SAMPLE.assign(mapped=SAMPLE["reference"] + 1e6 + 0.1)
    found = estimate_means(sample, STRATA)
    assert found["measures"]["bias"]["standard_error"] == 0
    assert found["measures"]["bias"]["low"] == pytest.approx(1e6 + 0.1)
    assert "(no interval)" in dict(mean_rows(found))["bias of the map"]
    assert "to" in dict(mean_rows(found))["mean of the reference"]


@pytest.mark.parametrize("unit", [1e-12, 1, 1e9])
def test_interval_follows_the_unit(unit: float) -> None:
    design = Design(SAMPLE["stratum"].tolist(), STRATA)
    one, other = (design.mean(f * SAMPLE["reference"]) for f in (1.0, unit))
    assert other.standard_error == pytest.approx(unit * one.standard_error)
    assert other.high == pytest.approx(unit * one.high)


def test_points_drawn_together_vary_between_clusters() -> None:
    frame = pd.concat([SAMPLE] * 4, ignore_index=True)
    alone = estimate_means(frame, STRATA)["measures"]["mean"]
    clusters = frame.groupby(["stratum", "reference"]).ngroup()
    together = estimate_means(frame.assign(cluster=clusters), STRATA)["measures"]["mean"]
    assert together["value"] == pytest.approx(alone["value"])
    assert together["standard_error"] > 1.5 * alone["standard_error"]


def test_sample_of_a_map_of_names_is_refused() -> None:
    named = {name: Stratum(level=name, pixels=9, area_m2=1) for name in STRATA}
    with pytest.raises(DataError, match="drawn from a map whose values have names, and a mean is"):
        estimate_means(SAMPLE, named)


def test_spread_of_the_whole_map_is_within_and_between_strata() -> None:
    within = 0.75 * 1 + 0.25 * 4
    between = 0.75 * (2 - 4.5) ** 2 + 0.25 * (12 - 4.5) ** 2
    assert overall_spread(STRATA) == pytest.approx(math.sqrt(within + between))
