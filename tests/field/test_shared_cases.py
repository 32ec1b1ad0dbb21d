"""Inputs after reports of users, each with what is right, from `../shared/data/field`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from field.bed import Bed, Said, read_map, read_samples

CASES = Path(__file__).resolve().parents[3] / "shared" / "data" / "field"
NAMES = sorted(path.parent.name for path in CASES.glob("*/expect.json")) or ["none"]


@pytest.mark.parametrize("name", NAMES)
def test_shared_case_gives_what_is_right(name: str, bed: Bed) -> None:
    if name == "none":
        pytest.skip("../shared/data/field is not there; it is not part of the repository")
    folder = bed.folder / name
    shutil.copytree(CASES / name, folder)
    expected = json.loads((folder / "expect.json").read_text())
    config = folder / "config.toml"
    for before, after in expected.get("edit", {}).items():
        assert before in config.read_text()
        config.write_text(config.read_text().replace(before, after))
    done = Said(0, "")
    for command in expected["commands"]:
        words = {
            "map": ["--output", str(folder / "out" / "map.tif")],
            "report": ["--map", str(folder / "out" / "map.tif")],
        }
        more = bed.run(command, *words.get(command, []), config=config)
        done = Said(more.code, done.text + more.text)
        if done.code:
            break
    for outcome in expected.get("either", [expected]):
        problems = list(check(outcome | {"never": expected.get("never", [])}, done, folder))
        if not problems:
            return
    pytest.fail(f"{problems}\n{done.text}")


def check(expected: dict[str, Any], done: Said, folder: Path) -> Any:
    """Tell what is not as it is expected."""
    yield from (f"says {each}" for each in expected["never"] if re.search(each, done.text, re.I))
    if "error" in expected:
        if done.code != 1:
            yield f"exit code {done.code}, not 1"
        yield from unsaid(expected["error"], done.text)
        return
    if done.code:
        yield f"exit code {done.code}"
        return
    yield from unsaid(expected.get("says", []), done.text)
    yield from unsaid([[line] for line in expected.get("lines", {}).values()], done.text)
    if "samples" in expected or "periods" in expected:
        table = read_samples(done.text)
        counts = table["class_name"].value_counts().to_dict()
        for name, number in expected.get("samples", {}).items():
            if not near(counts.get(name, 0), number):
                yield f"{counts.get(name, 0)} samples of {name}, not {number}"
        found = {match[0] for match in re.finditer(r"20\d\d-\d\d", " ".join(table.columns))}
        if "periods" in expected and found != set(expected["periods"]):
            yield f"periods {found}"
    path = folder / "out" / "map.tif"
    if path.exists():
        yield from check_map(expected, path, folder)


def check_map(expected: dict[str, Any], path: Path, folder: Path) -> Any:
    classes = read_map(path)
    for name, number in expected.get("class_pixels", {}).items():
        if not near((classes == name).sum(), number):
            yield f"{(classes == name).sum()} pixels of {name}, not {number}"
    hidden = (classes == "").sum()
    if hidden != expected.get("nodata_pixels", hidden):
        yield f"{hidden} pixels without a class, not {expected['nodata_pixels']}"
    if "map_codes_equal_labels" in expected:
        with rasterio.open(folder / expected["map_codes_equal_labels"]) as labels:
            codes = labels.read(1)
        with rasterio.open(path) as file:
            values = file.read(1)
        same = (values == codes)[codes != 0].mean()
        if same < expected["accuracy_at_least"]["least"]:
            yield f"{same:.2f} of the pixels have the code of the labels"


def unsaid(words: list[list[str]], text: str) -> Any:
    for group in words:
        for pattern in group:
            if not re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
                yield f"does not say {pattern}"


def near(found: Any, expected: int | list[int]) -> bool:
    number, margin = expected if isinstance(expected, list) else (expected, 0)
    return bool(np.abs(found - number) <= margin)
