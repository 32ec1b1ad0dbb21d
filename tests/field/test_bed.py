"""The bed itself: plain data give the true map."""

from __future__ import annotations

import numpy as np

from field.bed import Bed
from field.scenes import labels, reflectance, truth, write_scene


def test_bed_plain_scene_gives_the_true_map(bed: Bed) -> None:
    write_scene(bed.folder / "scene_20240514.tif", reflectance().astype("float32"))
    labels().to_file(bed.folder / "labels.gpkg")
    assert bed.samples() == {"water": 960, "crop": 960, "forest": 2176}
    bed.check_map()
    assert {name: (truth() == name).sum() for name in np.unique(truth())} == {
        "water": 2160,
        "crop": 2160,
        "forest": 4896,
    }
