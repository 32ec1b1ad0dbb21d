from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from terraflow.eo.features.own import compute_own, function_name, own_names
from terraflow.errors import ConfigError, DataError

Hook = Callable[[xr.Dataset], Any]
DAYS = pd.to_datetime(["2024-04-01", "2024-05-01"])


def cube() -> xr.Dataset:
    """Pixels tell date, row and column; not square."""
    values = np.add.outer([0.0, 100.0], np.add.outer([0.0, 10.0], [0.0, 1.0, 2.0]))
    image = (("time", "y", "x"), values.astype("float32"))
    return xr.Dataset({"red": image, "nir": image}, {"time": DAYS})


def last(data: xr.Dataset) -> dict[str, Any]:
    return {"red_last": data["red"].isel(time=-1)}


def both(data: xr.Dataset) -> dict[str, Any]:
    return {"zeta": data["red"].min("time"), "alpha": data["nir"].max("time")}


def wrong_shape(data: xr.Dataset) -> dict[str, Any]:
    return {"a": np.zeros((2, 2))}


def not_reduced(data: xr.Dataset) -> dict[str, Any]:
    return {"a": data["red"]}


def one_number(data: xr.Dataset) -> dict[str, Any]:
    return {"a": 1.0}


def swapped(data: xr.Dataset) -> dict[str, Any]:
    return {"a": data["red"].values[0].T}


def texts(data: xr.Dataset) -> dict[str, Any]:
    return {"a": np.full((data.sizes["y"], data.sizes["x"]), "high")}


def dates(data: xr.Dataset) -> dict[str, Any]:
    return {"a": data["time"].isel(time=0).broadcast_like(data["red"].isel(time=0))}


def objects(data: xr.Dataset) -> dict[str, Any]:
    return {"a": data["red"].values[0].astype(object)}


def ragged(data: xr.Dataset) -> dict[str, Any]:
    return {"a": [[1, 2], [3]]}


def an_array(data: xr.Dataset) -> Any:
    return data["red"].values[0]


def nothing(data: xr.Dataset) -> None:
    data["red"].max("time")


def number_for_a_name(data: xr.Dataset) -> dict[Any, Any]:
    return {7: data["red"].isel(time=0)}


def empty_name(data: xr.Dataset) -> dict[str, Any]:
    return {"": data["red"].isel(time=0)}


def failing(data: xr.Dataset) -> dict[str, Any]:
    raise ZeroDivisionError("no season\nsecond line")


def without_its_band(data: xr.Dataset) -> dict[str, Any]:
    return {"a": data["swir"].max("time")}


@pytest.mark.parametrize(
    ("hook", "told"),
    [
        (wrong_shape, r"returned a as an array of shape \(2, 2\); \(2, 3\), the cube's \(y, x\)"),
        (not_reduced, r"returned a as an array of shape \(2, 2, 3\); \(2, 3\), the cube's"),
        (one_number, r"returned a as an array of shape \(\); \(2, 3\), the cube's"),
        (swapped, r"returned a as an array of shape \(3, 2\); \(2, 3\), the cube's"),
        (texts, r"returned a as an array of type <U4; numbers are expected"),
        (dates, r"returned a as an array of type datetime64\[.*\]; numbers are expected"),
        (objects, r"returned a as an array of type object; numbers are expected"),
        (ragged, r"returned a as rows of unequal length; \(2, 3\), the cube's"),
        (an_array, r"returned ndarray of shape \(2, 3\); a dict of name to array"),
        (nothing, r"returned NoneType; a dict of name to array of shape \(y, x\) is expected"),
        (number_for_a_name, r"returned the name 7; write a text"),
        (empty_name, r"returned the name ''; write a text"),
        (
            failing,
            r"failed with ZeroDivisionError: no season \(test_own\.py, line \d+\); it got a cube",
        ),
        (without_its_band, r"failed with KeyError: .*swir.*; it got a cube of red, nir with"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_compute_own_wrong_function_is_told_in_one_sentence(hook: Hook, told: str) -> None:
    with pytest.raises(ConfigError) as found:
        compute_own([last, hook], cube())
    said = str(found.value)
    name = re.escape(f"Feature function {hook.__module__}:{hook.__qualname__} ")
    assert re.match(name + told, said)
    assert len(said.splitlines()) == 1
    assert said.endswith(".")
    assert ". " not in re.sub(r"'.*'|\"[^\"]*\"", "", said)  # xarray's own words aside


def test_compute_own_exception_of_ours_is_passed_on() -> None:
    def knows_better(data: xr.Dataset) -> dict[str, Any]:
        raise DataError("The images have no red edge; take others.")

    with pytest.raises(DataError, match=r"^The images have no red edge; take others\.$"):
        compute_own([knows_better], cube())


def test_compute_own_name_used_twice_is_refused() -> None:
    def again(data: xr.Dataset) -> dict[str, Any]:
        return last(data)

    with pytest.raises(ConfigError, match=r"again returned red_last, which another function ret"):
        compute_own([last, again], cube())


def test_compute_own_values_and_order_are_those_returned() -> None:
    found = compute_own([both, last], cube())
    assert list(found) == ["zeta", "alpha", "red_last"]
    assert found["zeta"].tolist() == [[0, 1, 2], [10, 11, 12]]
    assert found["alpha"].tolist() == [[100, 101, 102], [110, 111, 112]]


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "int64", "uint8", "bool"])
def test_compute_own_numbers_of_any_type_become_float32(kind: str) -> None:
    def typed(data: xr.Dataset) -> dict[str, Any]:
        return {"a": (data["red"].values[0] > 1).astype(kind)}

    image = compute_own([typed], cube())["a"]
    assert image.dtype == "float32"
    assert image.tolist() == [[0, 0, 1], [1, 1, 1]]


def test_compute_own_nan_stays() -> None:
    def some(data: xr.Dataset) -> dict[str, Any]:
        return {"a": data["red"].isel(time=0).where(data["red"].isel(time=0) > 5)}

    assert np.isnan(compute_own([some], cube())["a"]).tolist() == [[True] * 3, [False] * 3]


def test_compute_own_transposed_dataarray_is_turned_by_its_dims() -> None:
    def turned(data: xr.Dataset) -> dict[str, Any]:
        return {"a": data["red"].isel(time=0).transpose("x", "y")}

    assert compute_own([turned], cube())["a"].tolist() == [[0, 1, 2], [10, 11, 12]]


def test_compute_own_dataset_is_taken_as_a_dict() -> None:
    def reduced(data: xr.Dataset) -> xr.Dataset:
        return data.max("time").rename(red="red_high", nir="nir_high")

    assert list(compute_own([reduced], cube())) == ["red_high", "nir_high"]


def test_compute_own_function_that_replaces_changes_no_other_cube() -> None:
    def replaces(data: xr.Dataset) -> dict[str, Any]:
        data["red"] = data["red"] * 0 - 1
        del data["time"]
        return {"written": data["red"].isel(time=0)}

    data = cube()
    found = compute_own([replaces, last], data)
    assert (found["written"] == -1).all()
    assert found["red_last"].tolist() == [[100, 101, 102], [110, 111, 112]]
    xr.testing.assert_identical(data, cube())


def test_compute_own_function_that_writes_into_its_cube_is_refused() -> None:
    def writes(data: xr.Dataset) -> dict[str, Any]:
        data["red"].values[:] = -1
        return {}

    data = cube()
    with pytest.raises(ConfigError, match=r"failed with ValueError: .*read-only"):
        compute_own([writes], data)
    xr.testing.assert_identical(data, cube())
    assert data["red"].values.flags.writeable


def test_compute_own_masked_values_are_nodata() -> None:
    def masked(data: xr.Dataset) -> dict[str, Any]:
        return {"masked": np.ma.masked_equal(data["red"].values[0].astype("int32"), 100)}

    values = compute_own([masked], cube())["masked"]
    assert np.isnan(values).sum() == (cube()["red"].values[0] == 100).sum()


def test_own_names_are_in_order_and_cost_no_image() -> None:
    assert own_names([both, last], DAYS, ["red", "nir"], ["red_max"]) == [
        "zeta",
        "alpha",
        "red_last",
    ]


def test_own_names_without_functions_are_none() -> None:
    assert own_names([], DAYS, ["red"], ["red_max"]) == []


def test_own_names_name_of_a_configured_feature_is_refused() -> None:
    with pytest.raises(ConfigError) as found:
        own_names([last, both], DAYS, ["red", "nir"], ["red_max", "alpha"])
    assert str(found.value) == (
        f"Feature function {__name__}:both returned alpha, which is the name of another feature; "
        "give it a name of its own."
    )


def test_own_names_swapped_axes_are_seen_before_any_image_is_read() -> None:
    with pytest.raises(ConfigError, match=r"swapped returned a as an array of shape \(4, 3\); "):
        own_names([swapped], DAYS, ["red"], [])


def test_own_names_trial_has_the_dates_of_the_items() -> None:
    seen: list[xr.Dataset] = []

    def looks(data: xr.Dataset) -> dict[str, Any]:
        seen.append(data)
        return {}

    own_names([looks], DAYS, ["red", "ndvi"], [])
    assert list(seen[0].data_vars) == ["red", "ndvi"]
    assert seen[0]["red"].dims == ("time", "y", "x")
    assert seen[0]["red"].dtype == "float32"
    assert (seen[0]["time"].values == DAYS.values).all()


class Scaled:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, data: xr.Dataset) -> dict[str, Any]:
        return {"scaled": self.factor * data["red"].isel(time=0)}


def test_function_name_is_module_and_name() -> None:
    assert function_name(last) == f"{__name__}:last"
    assert function_name(Scaled(2)) == f"{__name__}:Scaled"


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_compute_own_what_is_not_finite_in_float32_is_none() -> None:
    values = np.array([[np.inf, -np.inf, 1e300], [np.nan, 1, 2]])
    found = compute_own([lambda data: {"a": values}], cube())["a"]
    assert np.array_equal(found, [[np.nan] * 3, [np.nan, 1, 2]], equal_nan=True)
