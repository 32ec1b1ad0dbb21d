from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import xarray as xr

from area import Area, make_project, write_labels, write_raster
from terraflow.eo.config import digests
from terraflow.eo.config.digests import code_closure
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.hooks import Hooks
from terraflow.eo.samples.digest import CODE, samples_digest
from terraflow.eo.targets.classes.classification import Classification
from terraflow.storage import Storage

SRC = Path(__file__).resolve().parents[4] / "src"
ONES = np.ones((16, 16), "uint8")

#: Modules that `preprocess` imports and that decide nothing in the samples, and why.
NOT_CODE = {
    "terraflow.eo.built_in": "names the targets; the code of each that counts is in its `code`",
    "terraflow.eo.config.addresses": "refuses credentials; what is left is in the digest",
    "terraflow.eo.config.bounds": "boxes of what is ingested; the items and their area, whose name "
    "is a digest, are in the digest",
    "terraflow.eo.config.digests": "makes the digest itself",
    "terraflow.eo.config.labels": "reads the configuration, whose values are in the digest",
    "terraflow.eo.config.imagery": "reads the configuration, whose values are in the digest",
    "terraflow.eo.config.project_file": "reads the configuration, whose values are in the digest",
    "terraflow.eo.config.record": "the form of what steps return",
    "terraflow.eo.config.section": "reads the configuration, whose values are in the digest",
    "terraflow.eo.config.sections": "reads the configuration, whose values are in the digest",
    "terraflow.eo.hooks": "carries the project's functions, whose code is in the digest",
    "terraflow.eo.images.collection": "reads the items, which are in the digest, in their order",
    "terraflow.eo.images.products.sentinel_2": "scales items, which are in the digest",
    "terraflow.eo.images.sources.local_files": "gives features the name of a property alone",
    "terraflow.eo.images.sources.search": "reads the items, which are in the digest",
    "terraflow.eo.project": "carries configuration and functions, which are in the digest",
    "terraflow.eo.targets.area.design": "estimates of a sample of a map",
    "terraflow.eo.targets.area.pixel_areas": "areas of a map",
    "terraflow.eo.targets.area.unit": "areas of a map",
    "terraflow.eo.images.sources.local_paths": "finds the files of items, which are in the digest",
    "terraflow.eo.images.sources.names": "reads names of files; the items are in the digest",
    "terraflow.eo.targets.classes.values": "values of a map",
    "terraflow.eo.targets.estimable": "estimates of a sample of a map",
    "terraflow.eo.targets.calibration": "how sure a trained model may be",
    "terraflow.eo.targets.classes.areas": "areas of a map",
    "terraflow.eo.targets.classes.card": "the model card",
    "terraflow.eo.targets.classes.classification": "names the column; reading and strata, which "
    "it hands on, are in its `code`",
    "terraflow.eo.targets.classes.colours": "colours of maps and figures",
    "terraflow.eo.targets.classes.confidence": "how sure a trained model may be",
    "terraflow.eo.targets.classes.figures": "figures of a training",
    "terraflow.eo.targets.classes.measures": "measures of a training",
    "terraflow.eo.targets.classes.report": "the report of a map",
    "terraflow.eo.targets.figures": "figures of a training",
    "terraflow.eo.targets.parts": "types of what passes between a target and the rooms",
    "terraflow.eo.targets.target": "the interface; what a target overrides is its own code",
}


def hook_a(cube: xr.Dataset) -> dict[str, Any]:
    return {"a": cube["red"].isel(time=0)}


def hook_b(cube: xr.Dataset) -> dict[str, Any]:
    return {"b": cube["red"].isel(time=0)}


class Other(Classification):
    """A target of a project's own."""


class Inputs:
    """All that samples come from; each part may be changed before the digest is asked for."""

    def __init__(self, area: Area, storage: Storage, folder: Path) -> None:
        area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
        self.items, self.storage, self.folder = area.items, storage, folder
        self.labels = str(write_labels(folder / "labels.gpkg"))
        self.layer = str(folder / "height.tif")
        write_raster(folder / "height.tif", ONES)
        self.changes: dict[str, Any] = {}
        self.hooks = Hooks()

    @property
    def config(self) -> ProjectConfig:
        plain = make_project(features={"layers": {"height": self.layer}}).model_dump(mode="json")
        for section, values in self.changes.items():
            merged = isinstance(values, dict)
            plain[section] = (plain[section] or {}) | values if merged else values
        return ProjectConfig.model_validate(plain)

    def digest(self) -> str:
        return samples_digest(self.config, self.hooks, self.items, self.labels, self.storage)


@pytest.fixture
def inputs(area: Area, storage: Storage, tmp_path: Path) -> Inputs:
    return Inputs(area, storage, tmp_path)


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], None]:
    """Append to a module's source, in a copy that digests read instead of what is imported."""
    copy = tmp_path / "copy"
    shutil.copytree(SRC / "terraflow" / "eo", copy / "terraflow" / "eo")
    real = digests._source

    def source(name: str) -> Path:
        path = copy.joinpath(*name.split("."))
        found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        return found if found.exists() else real(name)

    def append(module: str, text: str) -> None:
        path = copy.joinpath(*module.split(".")).with_suffix(".py")
        path.write_text(path.read_text() + text)

    monkeypatch.setattr(digests, "_source", source)
    return append


def test_samples_digest_of_the_same_is_the_same(inputs: Inputs) -> None:
    digest = inputs.digest()
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert inputs.digest() == digest


@pytest.mark.parametrize(
    "module",
    [
        "terraflow.eo.features.cube",
        "terraflow.eo.features.time.composites",
        "terraflow.eo.features.grid",
        "terraflow.eo.features.indices",
        "terraflow.eo.features.own",
        "terraflow.eo.features.pixel",
        "terraflow.eo.features.recipe",
        "terraflow.eo.features.windows",
        "terraflow.eo.images.assets",
        "terraflow.eo.images.sources.selection",
        "terraflow.eo.samples.data_report",
        "terraflow.eo.samples.digest",
        "terraflow.eo.samples.draw",
        "terraflow.eo.samples.preprocess",
        "terraflow.eo.targets.classes.labels.polygons",
        "terraflow.eo.targets.vectors.files",
    ],
)
def test_samples_digest_code_that_samples_come_from_gives_another(
    module: str, inputs: Inputs, edit: Callable[[str, str], None]
) -> None:
    before = inputs.digest()
    edit(module, "\n# A comment changes nothing.\n")
    assert inputs.digest() == before
    edit(module, "\nCHANGED = 1\n")
    assert inputs.digest() != before


@pytest.mark.parametrize(
    "module",
    [
        "terraflow.eo.images.download",
        "terraflow.eo.maps.map",
        "terraflow.eo.maps.report",
        "terraflow.eo.models.estimators",
        "terraflow.eo.monitoring.monitor",
        "terraflow.eo.steps",
        "terraflow.eo.targets.classes.card",
        "terraflow.eo.targets.classes.figures",
        "terraflow.eo.targets.classes.report",
        "terraflow.eo.training.card",
        "terraflow.eo.training.train",
    ],
)
def test_samples_digest_code_of_other_rooms_gives_the_same(
    module: str, inputs: Inputs, edit: Callable[[str, str], None]
) -> None:
    before = inputs.digest()
    edit(module, "\nCHANGED = 1\n")
    assert inputs.digest() == before


def test_samples_digest_docstring_gives_the_same(
    inputs: Inputs, edit: Callable[[str, str], None]
) -> None:
    edit("terraflow.eo.features.cube", '\ndef also():\n    """Do it."""\n    return 1\n')
    before = inputs.digest()
    path = digests._source("terraflow.eo.features.cube")
    path.write_text(path.read_text().replace('"""Do it."""', '"""Do it well."""'))
    assert inputs.digest() == before
    path.write_text(path.read_text().replace("return 1\n", "return 2\n"))
    assert inputs.digest() != before


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("seed", 43),
        ("data", {"bands": {"red": "mask"}}),
        ("data", {"bands": {"rot": "B04"}}),
        ("data", {"scaling": {"red": {"scale": 2}}}),
        ("grid", {"resolution": 20}),
        ("grid", {"resampling": "average"}),
        ("cloud_mask", None),
        ("cloud_mask", {"clear": [1, 2]}),
        ("labels", {"field": "sort"}),
        ("labels", {"classes": {"water": "lake"}}),
        ("labels", {"shrink": 5}),
        ("labels", {"samples_per_class": 3}),
        ("features", {"composites": "whole"}),
        ("features", {"percentile": 40}),
        ("features", {"statistics": ["min"]}),
        ("features", {"indices": ["NDVI"]}),
        ("features", {"constants": {"L": 0.4}}),
        ("features", {"neighbourhood": [3]}),
        ("features", {"layers": {}}),
        ("checks", {"min_samples_per_class": 3}),
        ("checks", {"value_range": {"red": [0, 1]}}),
        ("validation", {"block_size_px": 5}),
        ("validation", {"folds": 3}),
        ("validation", {"whole_polygons": False}),
    ],
)
def test_samples_digest_configuration_that_counts_gives_another(
    section: str, values: Any, inputs: Inputs
) -> None:
    before = inputs.digest()
    inputs.changes = {section: values}
    assert inputs.digest() != before


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("name", "other"),
        ("data", {"end": "2024-11-30"}),  # the items are what counts
        ("data", {"max_cloud_cover": 10}),
        ("model", {"name": "mlp", "parameters": {"alpha": 1}}),
        ("validation", {"gap_px": 3}),
        ("validation", {"resamples": 200}),
        ("map", {"minimum_mapping_unit_px": 9, "colours": {"water": "#0000ff"}}),
        ("monitor", {"max_psi": 0.1}),
    ],
)
def test_samples_digest_configuration_of_later_steps_gives_the_same(
    section: str, values: Any, inputs: Inputs
) -> None:
    before = inputs.digest()
    inputs.changes = {section: values}
    assert inputs.config != make_project(features={"layers": {"height": inputs.layer}})
    assert inputs.digest() == before


def test_samples_digest_order_of_bands_gives_another(inputs: Inputs) -> None:
    inputs.changes = {"data": {"bands": {"red": "B04", "mask": "mask"}}}
    before = inputs.digest()
    inputs.changes = {"data": {"bands": {"mask": "mask", "red": "B04"}}}
    assert inputs.digest() != before


def test_samples_digest_item_gives_another(inputs: Inputs) -> None:
    found = {inputs.digest()}
    inputs.items[0].assets["B04"].extra_fields["file:checksum"] = "1220aa"
    found.add(inputs.digest())
    inputs.items[0].properties["eo:cloud_cover"] = 3
    found.add(inputs.digest())
    inputs.items = [*inputs.items, inputs.items[0]]
    found.add(inputs.digest())
    assert len(found) == 4


@pytest.mark.parametrize("name", ["labels.gpkg", "labels[2024].gpkg", "labels.v2.gpkg"])
def test_samples_digest_labels_file_gives_another(name: str, inputs: Inputs) -> None:
    inputs.labels = str(write_labels(inputs.folder / name))
    before = inputs.digest()
    gpd.read_file(inputs.labels).assign(kind=["lake", "wood"]).to_file(inputs.labels)
    assert inputs.digest() != before


def test_samples_digest_file_beside_a_shapefile_gives_another(inputs: Inputs) -> None:
    inputs.labels = str(inputs.folder / "shape.shp")
    gpd.read_file(inputs.folder / "labels.gpkg").to_file(inputs.labels)
    before = inputs.digest()
    other = inputs.folder / "shape.dbf"  # it holds the classes
    other.write_bytes(other.read_bytes().replace(b"water", b"lakes"))
    assert inputs.digest() != before


def test_samples_digest_file_in_a_folder_of_labels_gives_another(inputs: Inputs) -> None:
    folder = inputs.folder / "labels.gdb"
    folder.mkdir()
    (folder / "a").write_text("1")
    inputs.labels = str(folder)
    before = inputs.digest()
    (folder / "a").write_text("2")
    assert inputs.digest() != before


def test_samples_digest_another_file_in_the_folder_gives_the_same(inputs: Inputs) -> None:
    before = inputs.digest()
    (inputs.folder / "notes.txt").write_text("aside")
    assert inputs.digest() == before


def test_samples_digest_layer_file_gives_another(inputs: Inputs) -> None:
    before = inputs.digest()
    write_raster(Path(inputs.layer), ONES * 2)
    assert inputs.digest() != before


def test_samples_digest_missing_labels_are_left_for_the_step_to_tell(inputs: Inputs) -> None:
    before = inputs.digest()
    inputs.labels = "/nowhere/labels.gpkg"
    assert inputs.digest() != before


def test_samples_digest_lock_gives_another(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("Procfile", "pyproject.toml"):
        (root / name).touch()
    monkeypatch.setenv("TERRAFLOW_ROOT", str(root))
    found = {inputs.digest()}
    for text in ("numpy==2.0", "numpy==2.1"):
        (root / "requirements.lock").write_text(text)
        found.add(inputs.digest())
    assert len(found) == 3


def test_samples_digest_hooks_give_another(inputs: Inputs) -> None:
    found = {inputs.digest()}
    for features in ((hook_a,), (hook_b,), (hook_a, hook_b), (hook_b, hook_a)):
        inputs.hooks = Hooks(features)
        found.add(inputs.digest())
    inputs.hooks = Hooks(target=Other())
    found.add(inputs.digest())
    assert len(found) == 6


def test_samples_digest_own_models_give_the_same(inputs: Inputs) -> None:
    before = inputs.digest()
    inputs.hooks = Hooks(models={"mine": dict}, package="land_cover")
    assert inputs.digest() == before


def test_samples_digest_code_of_a_hook_and_what_it_imports_gives_another(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "digest_hooks"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "helper.py").write_text("FACTOR = 2\n")
    (package / "aside.py").write_text("OTHER = 1\n")
    text = "from digest_hooks import helper\n\n\ndef hook(cube):\n    return {'a': helper.FACTOR}\n"
    (package / "features.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    from digest_hooks.features import hook  # type: ignore[import-not-found]

    inputs.hooks = Hooks((hook,))
    before = inputs.digest()
    (package / "aside.py").write_text("OTHER = 2\n")
    (package / "features.py").write_text(text + "# a comment\n")
    assert inputs.digest() == before
    (package / "helper.py").write_text("FACTOR = 3\n")
    changed = inputs.digest()
    assert changed != before
    (package / "features.py").write_text(text.replace("'a'", "'b'"))
    assert inputs.digest() not in (before, changed)


def covered(module: str) -> bool:
    code = (*CODE, *Classification.code)
    return any(module == name or module.startswith(f"{name}.") for name in code)


def test_samples_digest_covers_all_that_preprocess_imports() -> None:
    imported = {
        name
        for name in code_closure("terraflow.eo.samples.preprocess")
        if name.startswith("terraflow.eo.")
    }
    assert len(imported) > 30
    assert {name for name in imported if not covered(name)} == set(NOT_CODE)
