"""The DAG files without a running stack: what Airflow would refuse, and what a reader needs."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

from terraflow.eo.step_table import STEPS
from terraflow.orchestration import yaml_files

FOLDER = Path(__file__).resolve().parents[2] / "dags"
MAX_LINES = 40


def load(folder: Path) -> DagBag:
    return DagBag(dag_folder=str(folder), safe_mode=True)


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return load(FOLDER)


def test_dags_import_without_error_cycle_or_duplicate_id(bag: DagBag) -> None:
    assert bag.import_errors == {}
    names = [path.stem for path in FOLDER.glob("*.py") if path.name != "load_yaml.py"]
    names += [path.stem for path in FOLDER.glob("*.yml")]
    assert sorted(bag.dags) == sorted(names)  # a duplicate would be one less


def test_dags_tell_a_newcomer_what_they_do(bag: DagBag) -> None:
    for dag in bag.dags.values():
        assert dag.doc_md
        assert dag.doc_md.startswith("## ")
        assert dag.tags


def test_dags_never_catch_up_and_run_once_at_a_time(bag: DagBag) -> None:
    assert {(dag.catchup, dag.max_active_runs) for dag in bag.dags.values()} == {(False, 1)}


def test_form_can_be_sent_as_it_is(bag: DagBag) -> None:
    """Airflow's form takes no empty text, unless the parameter may be null."""
    params = [p for dag in bag.dags.values() for _, p in dag.params.items()]
    params += [p for dag in bag.dags.values() for t in dag.tasks for _, p in t.params.items()]
    assert len(params) > 10
    for param in params:
        assert param.resolve() != ""
        assert param.resolve() is not None or "null" in param.schema.get("type", ["null"])


def test_tasks_retry_what_may_pass_and_have_a_time_limit(bag: DagBag) -> None:
    for dag in bag.dags.values():
        for task in dag.tasks:
            assert task.retries >= 1
            assert task.execution_timeout or task.task_id == "approve"  # a person may take days


def test_tasks_run_steps_that_there_are(bag: DagBag) -> None:
    steps = {task.step for dag in bag.dags.values() for task in dag.tasks if hasattr(task, "step")}
    assert steps <= set(STEPS)
    assert {"ingest", "preprocess", "train", "gate", "promote", "scenes", "monitor"} <= steps


def test_trainings_share_a_pool(bag: DagBag) -> None:
    pools = {
        task.pool for dag in bag.dags.values() for task in dag.tasks if task.task_id == "train"
    }
    assert pools == {"training"}


def test_training_form_has_defaults_descriptions_and_validation(bag: DagBag) -> None:
    params = bag.dags["land_cover_training"].params
    assert set(params) == {"config", "start", "end", "items", "model_name", "tune"}
    for name in params:
        param = params.get_param(name)
        assert param.description
        param.resolve()  # the default is valid
    for name, wrong in (("tune", -1), ("tune", "many"), ("start", "spring")):
        with pytest.raises(ValueError, match=r"minimum|integer|date"):
            params.get_param(name).resolve(wrong)


def test_python_and_yaml_give_the_same_pipeline(bag: DagBag) -> None:
    python, yaml = (bag.dags[f"land_cover_training{end}"] for end in ("", "_yaml"))
    for name in python.task_ids:
        ours, theirs = python.get_task(name), yaml.get_task(name)
        assert type(ours) is type(theirs)
        assert ours.upstream_task_ids == theirs.upstream_task_ids
        assert (ours.pool, ours.outlets) == (theirs.pool, theirs.outlets)
    assert sorted(python.task_ids) == sorted(yaml.task_ids)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_dag_file_only_wires(path: Path) -> None:
    tree = ast.parse(path.read_text())
    code = len(path.read_text().splitlines()) - len((ast.get_docstring(tree) or "").splitlines())
    assert code < MAX_LINES
    at_top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(node, "module", "") or node.names[0].name for node in at_top}
    assert {module.split(".")[0] for module in modules} <= {"airflow", "terraflow", "pathlib"}


def test_parse_imports_no_library_of_the_steps() -> None:
    code = (
        "import runpy, sys\n"
        f"for path in {sorted(map(str, FOLDER.glob('*.py')))!r}: runpy.run_path(path)\n"
        "print(sorted({'xarray', 'rasterio', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The DAG files, to be broken."""
    return Path(shutil.copytree(FOLDER, tmp_path / "dags", ignore=shutil.ignore_patterns("__*")))


def test_broken_python_breaks_its_own_dag_only_and_names_the_line(copied: Path) -> None:
    (copied / "land_cover_mapping.py").write_text("# airflow dag\n\nimport nothing_like_it\n")
    bag = load(copied)
    [(file, told)] = bag.import_errors.items()
    assert file.endswith("land_cover_mapping.py")
    assert "line 3" in told
    assert "nothing_like_it" in told
    assert {"land_cover_training", "land_cover_training_yaml"} <= set(bag.dags)


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
