from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from area import write_raster
from terraflow.eo.config.project_file import load_config
from terraflow.eo.images.sources.local_files import find_files
from terraflow.eo.images.sources.local_paths import find_paths, local_path

ODD = ["a b", "été", "[2024]", "{a}", "a*b", "a?b", "a#1", "a%20b", "100%", "a!b", "[*]", "a'b"]


def make(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


@pytest.mark.parametrize("folder", ODD)
def test_find_paths_folder_with_characters_of_patterns_is_taken_literally(
    folder: str, tmp_path: Path
) -> None:
    wanted = [make(tmp_path / folder / "scenes" / f"{n}.tif") for n in (1, 2)]
    make(tmp_path / "axb" / "scenes" / "3.tif")
    make(tmp_path / "2" / "scenes" / "3.tif")
    assert find_paths(f"{tmp_path}/{folder}/scenes/*.tif")[0] == wanted
    assert find_paths(f"{tmp_path}/{folder}/**/*.tif")[0] == wanted


@pytest.mark.parametrize("name", ODD)
def test_find_paths_file_with_characters_of_patterns_is_taken_literally(
    name: str, tmp_path: Path
) -> None:
    wanted = make(tmp_path / f"{name}.tif")
    make(tmp_path / "axb.tif")
    make(tmp_path / "2.tif")
    assert find_paths(f"{tmp_path}/{name}.tif") == ([wanted], f"{tmp_path.parent}/")


def test_find_paths_wildcards_mean_what_they_mean_where_nothing_has_the_name(
    tmp_path: Path,
) -> None:
    one, two = make(tmp_path / "a1" / "x1.tif"), make(tmp_path / "a2" / "x2.tif")
    (tmp_path / "a1" / "folder.tif").mkdir()
    assert find_paths(f"{tmp_path}/a[12]/*.tif") == ([one, two], f"{tmp_path.parent}/")
    assert find_paths(f"{tmp_path}/a1/x?.tif") == ([one], f"{tmp_path}/")
    assert find_paths(f"{tmp_path}/nowhere/*.tif")[0] == []


def test_find_paths_escaped_by_the_user_is_read_too(tmp_path: Path) -> None:
    wanted = make(tmp_path / "[2024]" / "[1].tif")
    assert find_paths(f"{tmp_path}/[[]2024]/[[]1].tif")[0] == [wanted]


@pytest.mark.parametrize("folder", ODD)
def test_load_config_in_a_folder_with_characters_of_patterns(folder: str, tmp_path: Path) -> None:
    """Files are named relative to the folder of the project file."""
    home = tmp_path / folder
    write_raster(home / "scenes" / "s_20240514.tif", np.ones((4, 4), "uint8"))
    config = home / "project.toml"
    config.write_text('[data]\nfiles = "scenes/*.tif"\nbands = { red = "image" }\n')
    files = load_config(config, project="land_cover").data.files
    (item,) = find_files(files)
    assert item.assets["image"].href == str(home / "scenes" / "s_20240514.tif")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("my%20images/B04.tif", "my images/B04.tif"),
        ("%C3%A9t%C3%A9/B04.tif", "été/B04.tif"),
        ("a%231/B04%5B1%5D.tif", "a#1/B04[1].tif"),
        ("100%25/B04.tif", "100%/B04.tif"),
        ("plain/B04.tif", "plain/B04.tif"),
        ("100%/B04.tif", "100%/B04.tif"),
        ("a%20b/B04.tif", "a%20b/B04.tif"),  # the folder has this very name
    ],
)
@pytest.mark.parametrize("prefix", ["", "file://", "file://localhost", "file:"])
def test_local_path_is_decoded_unless_a_file_has_the_name(
    prefix: str, written: str, name: str, tmp_path: Path
) -> None:
    wanted = make(tmp_path / name)
    assert local_path(f"{prefix}{tmp_path}/{written}") == wanted
