"""DAGs in YAML without a running stack: a mistake names its line, and breaks its own DAG only."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

from terraflow.orchestration import yaml_files

FOLDER = Path(__file__).resolve().parents[2] / "dags"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The DAG files, to be broken."""
    return Path(shutil.copytree(FOLDER, tmp_path / "dags", ignore=shutil.ignore_patterns("__*")))


def load(folder: Path) -> DagBag:
    return DagBag(dag_folder=str(folder), safe_mode=True)


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("  tasks:", "  tasks: [", "task_id: ingest", "expected"),
        ("StepOperator\n      step: train", "NoOperator\n      step: train", "NoOper", "NoOper"),
        ("dependencies: [gate]", "dependencies: [gait]", "[gait]", "gait"),
        ("step: preprocess", "stepp: preprocess", "land_cover_training_yaml:", "'step'"),
    ],
)
def test_broken_yaml_breaks_its_own_dag_only_and_names_the_line(
    old: str, new: str, line: str, told: str, copied: Path
) -> None:
    path = copied / "land_cover_training_yaml.yml"
    other = copied / "other_yaml.yml"
    text = path.read_text()
    assert old in text
    other.write_text(text.replace("land_cover_training_yaml:", "other_yaml:"))
    path.write_text(text.replace(old, new, 1))
    bag = load(copied)
    [(_, error)] = bag.import_errors.items()
    assert "other_yaml" in bag.dags
    assert "land_cover_training_yaml" not in bag.dags
    assert told in error
    assert f"{path}, line " in error
    number = int(error.split(f"{path}, line ")[1].split(":")[0])
    assert line in path.read_text().splitlines()[number - 1]


def test_two_broken_yaml_files_are_both_told(copied: Path) -> None:
    for name in ("one", "two"):
        (copied / f"{name}.yml").write_text("one: [\n")
    made = yaml_files.load(copied)
    assert isinstance(made["broken_yaml_files"], DAG)
    [(_, error)] = load(copied).import_errors.items()
    assert f"{copied}/one.yml, line " in error
    assert f"{copied}/two.yml, line " in error
