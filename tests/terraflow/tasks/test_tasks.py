"""Mistakes on the command line are told before any work, and without a running stack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def refused(*words: str) -> str:
    """Run `invoke WORDS`, which must end with a sentence."""
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "ingest ..." not in done.stdout
    [sentence] = done.stderr.splitlines()
    return sentence


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("train", "--tune", "many"), "--tune 'many' is no number"),
        (("train", "--tune=-1"), "--tune -1 is no number of trials; give 1 or more"),
        (("monitor", "--max-psi", "low"), "--max-psi 'low' is no number"),
        (("map", "--output", "map.png"), "map.png is no name of a GeoTIFF"),
        (("ingest", "--files", "https://user:secret@example.org/*.tif"), "holds credentials"),
    ],
)
def test_task_wrong_option_is_a_sentence(words: tuple[str, ...], expected: str) -> None:
    said = refused(*words)
    assert expected in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name = "mlp"', 'name = "randomforest"', "the nearest are random_forest"),
        ("hidden_layer_sizes", "layer_sizes", "nearest are hidden_layer_sizes"),
        ('"NDVI"', '"NDVJ"', "Index NDVJ is not known; did you mean"),
    ],
)
def test_train_unknown_name_is_told_before_ingest(
    old: str, new: str, expected: str, config_dir: Path
) -> None:
    path = config_dir / "land_cover.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert expected in refused("train")
