from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pydantic
import pytest

from terraflow.eo.config.imagery import Scaling, StaticLayer
from terraflow.eo.config.project_file import ProjectConfig, load_config, read_recorded
from terraflow.errors import ConfigError

MINIMAL = """
[data]
bands = { red = "B04" }
"""
#: As a model of before version 0.2 recorded it, and with keys of a version yet to come.
RECORDED = {
    "name": "land-cover",
    "later": {"a": 1},
    "data": {
        "bands": {"red": "B04", "nir": "B08"},
        "later": 1,
        "scaling": {"red": {"scale": 2, "nodata": 7, "later": 1}},
    },
    "cloud_mask": {"asset": "SCL", "clear": [4], "later": 1},
    "labels": {"class_field": "kind", "classes": {"1": "water"}, "later": 1},
    "features": {"layers": {"height": "/dem.tif"}, "constants": {"L": 0.4}},
    "checks": {"value_range": {"red": [0, 1]}},
    "model": {"name": "mlp", "parameters": {"alpha": 1.5}, "later": 1},
    "map": {"colours": {"water": "#0000ff"}, "later": 1},
}


def refused(text: str, folder: Path) -> str:
    path = folder / "project.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as found:
        load_config(path, project="land_cover")
    return str(found.value).replace(f"{path}: ", "")


def test_load_config_takes_bands_alone(tmp_path: Path) -> None:
    path = tmp_path / "project.toml"
    path.write_text(MINIMAL)
    project = load_config(path, project="land_cover")
    assert project.simulated
    assert project.cloud_mask is None
    assert project.model.name == "mlp"


def test_load_config_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    path = tmp_path / "project.toml"
    path.write_text(
        MINIMAL
        + """
catalogue = "catalog.json"
area = "area.geojson"
files = "scenes/*.tif"
[labels]
source = "https://example.org/labels.gpkg"
[features.layers]
elevation = "../dem.tif"
"""
    )
    project = load_config(path, project="land_cover")
    assert project.data.catalogue == str(tmp_path / "catalog.json")
    assert project.data.area == str(tmp_path / "area.geojson")
    assert project.data.files == str(tmp_path / "scenes" / "*.tif")
    assert project.labels.source == "https://example.org/labels.gpkg"
    elevation = StaticLayer(path=str(tmp_path.parent / "dem.tif"))
    assert project.features.layers == {"elevation": elevation}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("start = 2024-05-01\nend = 2024-04-01", "start 2024-05-01 is after end 2024-04-01; swap"),
        ("area = [179, 46, 179, 47]", "is no box; write west"),
        ("area = [179, 46, 181, 47]", "is no box; write west"),
        ("area = [14, 46, 13, 47]", "area [14.0, 46.0, 13.0, 47.0] is no box; write west"),
        ("scaling = { rde = { scale = 1 } }", "scaling names rde, which bands does not"),
        ("name_pattern = '('", "is no regular expression"),
        ("date_format = '%Y%m%d'", "has nothing to read; give name_pattern a group date, as '(?P<"),
        ("name_pattern = '(?P<date>.)'\ndate_format = '%d%m'", "'%d%m' has no year; write one as"),
        ("name_pattern = '(?P<date>.)'\ndate_format = '%Q'", "'%Q' is no format of strptime ("),
        ("[cloud_mask]\nasset = 'scl'", "exactly one of clear, cloudy_bits and above is expected"),
        (f"[features]\nneighbourhood = [{10**30 + 1}]", "should be less than or equal to 1001"),
        (f"[validation]\nblock_size_px = {10**30}", "should be less than or equal to 2147483647"),
        ("[validation]\nresamples = 10000000", "should be less than or equal to 1000000"),
        ("[features]\nneighbourhood = [4]", "side 4 is even; a pixel in the middle needs an odd"),
        (
            "[features]\nstatistics = ['median']",
            "write min, max, mean, std, or a percentile as p10",
        ),
        ("[map.colours]\nforest = 'green'", "'green' is no colour; write it as #1f6b35"),
    ],
)
def test_load_config_wrong_value_says_what_is_expected(
    text: str, expected: str, tmp_path: Path
) -> None:
    said = refused(MINIMAL + text, tmp_path)
    assert expected in said
    assert "datetime.date" not in said
    assert len(said.splitlines()) == 1


def test_load_config_names_every_wrong_key(tmp_path: Path) -> None:
    said = refused(MINIMAL + "colection = 'x'\n[modle]\nname = 'mlp'", tmp_path)
    assert "did you mean" in said
    assert len(said.splitlines()) == 2


def test_load_config_without_a_name_takes_the_projects(tmp_path: Path) -> None:
    path = tmp_path / "project.toml"
    path.write_text(MINIMAL)
    assert load_config(path, project="crop_yield").name == "crop-yield"
    path.write_text('name = "mine"\n' + MINIMAL)
    assert load_config(path, project="crop_yield").name == "mine"


def test_load_config_without_a_path_reads_the_projects_file_and_its_local_overrides(
    config_dir: Path,
) -> None:
    (config_dir / "flood.toml").write_text(MINIMAL + '[labels]\nsource = "a.gpkg"')
    (config_dir / "local").mkdir()
    (config_dir / "local" / "flood.toml").write_text('[model]\nname = "lightgbm"')
    config = load_config(project="flood")
    assert config.name == "flood"
    assert config.model.name == "lightgbm"
    assert config.labels.source == str(config_dir / "a.gpkg")


def test_load_config_missing_file_is_named(config_dir: Path) -> None:
    with pytest.raises(ConfigError, match=str(config_dir / "nowhere.toml")):
        load_config(project="nowhere")


def test_load_config_former_name_of_a_key_is_read(tmp_path: Path) -> None:
    path = tmp_path / "project.toml"
    path.write_text(MINIMAL + '[labels]\nclass_field = "kind"')
    assert load_config(path, project="land_cover").labels.field == "kind"


def test_load_config_key_by_both_its_names_is_refused(tmp_path: Path) -> None:
    said = refused(MINIMAL + '[labels]\nclass_field = "kind"\nfield = "kind"', tmp_path)
    assert "field is given twice, by its present and its former name" in said
    assert len(said.splitlines()) == 1


def test_read_recorded_keys_of_another_version_are_left_aside_at_every_depth() -> None:
    config = read_recorded(RECORDED)
    text = config.model_dump_json()
    assert "later" not in text
    assert config.data.bands == {"red": "B04", "nir": "B08"}
    assert config.data.scaling == {"red": Scaling(scale=2, nodata=7)}
    assert config.cloud_mask is not None
    assert config.cloud_mask.clear == [4]
    assert config.labels.classes == {"1": "water"}
    assert config.features.layers["height"].path == "/dem.tif"
    assert config.features.constants == {"L": 0.4}
    assert config.checks.value_range == {"red": (0, 1)}
    assert config.model.parameters == {"alpha": 1.5}
    assert config.map.colours == {"water": "#0000ff"}


def test_read_recorded_layer_by_its_address_alone_is_read_as_it_was_trained() -> None:
    """Before version 0.2 all layers were band 1, unscaled and bilinear."""
    layers = read_recorded(RECORDED).features.layers
    told = {"bands": [1], "resampling": "bilinear", "scale": 1, "offset": 0}
    assert layers == {"height": StaticLayer.model_validate({"path": "/dem.tif"} | told)}


@pytest.mark.parametrize(
    "layer", ["/dem.tif", {"path": "/dem.tif", "bands": [2, 3], "scale": 0.5, "nodata": -1}]
)
def test_read_recorded_layer_of_this_version_is_the_same(layer: object) -> None:
    plain = {"name": "a", "data": {"bands": {"red": "B04"}}, "features": {"layers": {"x": layer}}}
    config = ProjectConfig.model_validate(plain)
    assert read_recorded(config.model_dump(mode="json")) == config


def test_load_config_layer_is_an_address_or_a_table(tmp_path: Path) -> None:
    path = tmp_path / "project.toml"
    path.write_text(
        MINIMAL
        + """
[features.layers]
plain = "dem.tif"
soil = { path = "soil.tif", bands = [1, 3], resampling = "mode", nodata = 255 }
"""
    )
    assert load_config(path, project="land_cover").features.layers == {
        "plain": StaticLayer(path=str(tmp_path / "dem.tif")),
        "soil": StaticLayer(
            path=str(tmp_path / "soil.tif"), bands=[1, 3], resampling="mode", nodata=255
        ),
    }


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            "bands = [2, 2]",
            r"soil\.bands = \[2, 2\] is wrong: .*names a band twice; name",
        ),
        ("bands = [0]", r"soil\.bands\.0 = 0 is wrong: .*greater than or equal to 1"),
        ("bands = []", r"soil\.bands = \[\] is wrong: .*at least 1 item"),
        ('resampling = "lanzcos"', r"soil\.resampling = 'lanzcos' is wrong: .*'nearest'"),
        ("band = 1", r"soil\.band is not a known key"),
    ],
)
def test_load_config_wrong_layer_is_named(table: str, expected: str, tmp_path: Path) -> None:
    text = MINIMAL + f'[features]\nlayers = {{ soil = {{ path = "soil.tif", {table} }} }}'
    assert re.search(expected, refused(text, tmp_path))


def test_read_recorded_renamed_key_is_read() -> None:
    assert read_recorded(RECORDED).labels.field == "kind"


def test_read_recorded_missing_keys_take_their_defaults() -> None:
    config = read_recorded({"name": "a", "data": {"bands": {"red": "B04"}}})
    assert config.seed == 42
    assert config.labels.field == "class_name"
    assert config.cloud_mask is None


@pytest.mark.parametrize("features", [None, {}, {"composites": "month_of_year"}])
def test_read_recorded_model_from_before_gaps_had_an_end_keeps_none(
    features: dict[str, str] | None,
) -> None:
    recorded: dict[str, Any] = {"name": "a", "data": {"bands": {"red": "B04"}}}
    if features is not None:
        recorded["features"] = features
    assert read_recorded(recorded).features.max_gap_days is None
    assert ProjectConfig.model_validate(recorded).features.max_gap_days == 92


def test_read_recorded_what_is_recorded_today_reads_back_the_same() -> None:
    config = read_recorded(RECORDED)
    assert read_recorded(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("key", ["name", "data"])
def test_read_recorded_missing_key_without_a_default_is_refused(key: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=key):
        read_recorded({name: value for name, value in RECORDED.items() if name != key})
