"""Whether intervals hold the truth as often as they say, by draws of a map that is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from scipy import ndimage

from terraflow.eo.targets.area.pixel_areas import PixelAreas
from terraflow.eo.targets.area.strata import draw_pixels, part_map
from terraflow.eo.targets.classes.areas import AreaEstimate, estimate_areas
from terraflow.eo.validation.size import allocate

#: Values of the Slovenian reference, whose polygons leave few pixels out.
NAMES = {2: "forest", 3: "grassland", 4: "shrubland", 8: "artificial"}
POINTS, DRAWS = 400, 2000
Drawer = Callable[[int], AreaEstimate]


class Slovenia:
    """The reference, and a map of it with errors in clumps as a model makes them."""

    def __init__(self, folder: Path) -> None:
        with rasterio.open(folder / "reference" / "land_use.tif") as file:
            reference = file.read(1)
            grid = (file.crs, file.transform, reference.shape)
        self.names = list(NAMES.values())
        number = np.zeros(256, "uint8")
        number[list(NAMES)] = np.arange(1, 5)
        self.truth = number[reference]
        random = np.random.default_rng(1)
        clumps = ndimage.gaussian_filter(random.normal(size=reference.shape), 3)
        other = ndimage.gaussian_filter(random.normal(size=(4, *reference.shape)), (0, 4, 4))
        wrong = clumps > np.quantile(clumps[self.truth > 0], 0.88)
        mapped = np.where(wrong, other.argmax(axis=0) + 1, self.truth)
        self.mapped = np.where(self.truth > 0, mapped, 0).astype("uint8")
        noise = ndimage.gaussian_filter(random.normal(size=reference.shape), 2)
        sure = 90 - 25 * wrong + 60 * noise
        self.confidence = sure.clip(1, 100).astype("uint8")
        self.areas = PixelAreas(*grid)
        self.true_m2 = self.areas.sums(self.truth, 5)[1:]

    def drawer(self, *, how: str = "proportional", by: str = "") -> Drawer:
        named = dict(enumerate(self.names, 1))
        numbers, strata = part_map(self.mapped, self.confidence, named, self.areas, by=by)
        sizes = np.array([each.pixels for each in strata.values()])
        shares = np.array([each.area_m2 for each in strata.values()])
        right = self.mapped == self.truth
        users = np.array([right[numbers == i + 1].mean() for i in range(len(sizes))])
        spreads = np.sqrt(users.clip(0.05, 0.95) * (1 - users.clip(0.05, 0.95)))
        counts = allocate(POINTS, sizes, shares / shares.sum(), spreads, how)
        words = np.array(["", *self.names], dtype=object)

        def draw(seed: int) -> AreaEstimate:
            places = draw_pixels(numbers, counts.tolist(), self.areas, seed)
            at = tuple(np.concatenate(places).T)
            sample = pd.DataFrame(
                {
                    "stratum": np.repeat(np.array([*strata], dtype=object), counts),
                    "mapped": words[self.mapped[at]],
                    "reference": words[self.truth[at]],
                }
            )
            return estimate_areas(sample, strata, self.names)

        return draw


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("how", "by"),
    [("proportional", ""), ("equal", ""), ("neyman", ""), ("proportional", "classes+confidence")],
)
def test_intervals_of_2000_draws_hold_the_truth_in_93_to_97_percent(
    how: str, by: str, slovenia: Path, record_property: Callable[[str, object], None]
) -> None:
    case = Slovenia(slovenia)
    draw = case.drawer(how=how, by=by)
    found, held = np.zeros((DRAWS, 4)), np.zeros((DRAWS, 4), bool)
    overall, right = 0, (case.mapped == case.truth)[case.truth > 0].mean()
    for seed in range(DRAWS):
        estimate = draw(seed)
        rows = [estimate.classes[name].area_m2 for name in case.names]
        found[seed] = [row.value for row in rows]
        held[seed] = [a.low <= t <= a.high for a, t in zip(rows, case.true_m2, strict=True)]
        overall += estimate.overall_accuracy.low <= right <= estimate.overall_accuracy.high
    share = case.true_m2 / case.true_m2.sum()
    rms = np.sqrt(((found - case.true_m2) ** 2).mean(axis=0)) / case.true_m2
    both = zip(held.mean(axis=0).round(4), rms.round(4), strict=True)
    told = dict(zip(case.names, both, strict=True)) | {"overall": overall / DRAWS}
    record_property("coverage and rms", str(told))
    assert (held.mean(axis=0)[share > 0.03] >= 0.93).all(), told
    assert (held.mean(axis=0)[share > 0.03] <= 0.97).all(), told
    # a quarter of the points in the stratum that is most of the map tells few of its errors
    assert (0.92 if how == "equal" else 0.93) <= overall / DRAWS <= 0.97
    assert rms[0] <= 0.02
    assert np.abs(found.mean(axis=0) / case.true_m2 - 1).max() < 0.02


def test_intervals_of_100_draws_hold_the_truth_of_forest(slovenia: Path) -> None:
    case = Slovenia(slovenia)
    draw = case.drawer()
    rows = [draw(seed).classes["forest"].area_m2 for seed in range(100)]
    assert sum(row.low <= case.true_m2[0] <= row.high for row in rows) >= 88
    counted = case.areas.sums(case.mapped, 5)[1]
    assert np.mean([abs(row.value - case.true_m2[0]) for row in rows]) < abs(
        counted - case.true_m2[0]
    )
