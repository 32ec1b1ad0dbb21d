from __future__ import annotations

from pathlib import Path

import pytest

from terraflow.eo.config.project_file import load_config
from terraflow.errors import ConfigError

MINIMAL = """
[data]
bands = { red = "B04" }
"""


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
    assert project.features.layers == {"elevation": str(tmp_path.parent / "dem.tif")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("start = 2024-05-01\nend = 2024-04-01", "start 2024-05-01 is after end 2024-04-01; swap"),
        ("area = [14, 46, 13, 47]", "area [14.0, 46.0, 13.0, 47.0] is no box; write west"),
        ("scaling = { rde = { scale = 1 } }", "scaling names rde, which bands does not"),
        ("name_pattern = '('", "is no regular expression"),
        ("[cloud_mask]\nasset = 'scl'", "exactly one of clear and cloudy_bits is expected"),
        ("[features]\nneighbourhood = [4]", "side 4 is even; a pixel in the middle needs an odd"),
        (
            "[features]\nstatistics = ['median']",
            "write min, max, mean, std, or a percentile as p10",
        ),
        ("[map.colours]\nforest = 'green'", "write a colour as #1f6b35"),
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
