"""Whatever type, nodata, mask, scaling, CRS and orientation an image has, its samples are true."""

from __future__ import annotations

from itertools import count

import numpy as np
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from field.bed import Bed
from field.scenes import BLOCK, CRS, GRID, labels, reflectance, truth, write_scene

#: Name of a type to how much a reflectance of 1 is in it.
TYPES = {"uint8": 250, "int16": 10_000, "uint16": 10_000, "uint32": 1_000_000, "float32": 1}
PLACES: dict[str, Affine] = {
    CRS: GRID,
    "EPSG:3857": from_origin(1_670_000, 5_780_000, 10, 10),
    "EPSG:3035": from_origin(4_600_000, 2_560_000, 10, 10),
}
HIDDEN = np.zeros((96, 96), bool)
HIDDEN[:, :20] = True
LABELLED = np.zeros((96, 96), bool)
for first in range(2, 96, BLOCK):
    for other in range(2, 96, BLOCK):
        LABELLED[first : first + 8, other : other + 8] = True
numbers = count()


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    dtype=st.sampled_from(list(TYPES)),
    told=st.sampled_from(["nothing", "nodata", "alpha", "internal", "msk"]),
    scaled=st.booleans(),
    south_up=st.booleans(),
    crs=st.sampled_from(list(PLACES)),
    names=st.dictionaries(
        st.sampled_from(["water", "crop", "forest"]),
        st.text("abcÄé ,=%'\"|", min_size=1, max_size=6).map(lambda text: f"x{text}x"),
        max_size=1,
    ),
)
def test_any_image_gives_the_true_samples(
    bed: Bed,
    *,
    dtype: str,
    told: str,
    scaled: bool,
    south_up: bool,
    crs: str,
    names: dict[str, str],
) -> None:
    one = Bed(bed.folder / f"example{next(numbers)}", bed.capture)
    one.folder.mkdir()
    factor = TYPES[dtype]
    values = np.round(reflectance() * factor, 6).astype(dtype)
    hidden = HIDDEN if told != "nothing" else np.zeros_like(HIDDEN)
    values[:, hidden] = 0
    grid = PLACES[crs]
    write_scene(
        one.folder / "scene_20240514.tif",
        values,
        nodata=0 if told == "nodata" else None,
        mask=told if told in ("alpha", "internal", "msk") else None,
        hidden=hidden,
        scale=1 / factor if scaled else None,
        south_up=south_up,
        crs=crs,
        grid=grid,
    )
    labels(crs=crs, grid=grid, names=names).to_file(one.folder / "labels.gpkg")
    table = one.table()
    expected = truth()[LABELLED & ~hidden]
    found = table["class_name"].value_counts().to_dict()
    renamed = [" ".join(names.get(name, name).split()) for name in expected]
    assert found == {name: renamed.count(name) for name in set(renamed)}
    mean = table.filter(regex="^red").to_numpy().mean() * (1 if scaled else 1 / factor)
    assert np.isclose(mean, reflectance()[2][LABELLED & ~hidden].mean(), atol=0.003)
