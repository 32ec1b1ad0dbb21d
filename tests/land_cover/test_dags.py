"""The DAG files without a running stack: what Airflow would refuse, and what a reader needs."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from terraflow.eo.step_table import STEPS

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


@pytest.mark.parametrize(
    "dag_id", [path.stem for path in sorted(FOLDER.glob("land_cover_training*.[py]*"))]
)
def test_training_form_has_defaults_descriptions_and_validation(dag_id: str, bag: DagBag) -> None:
    params = bag.dags[dag_id].params
    assert set(params) == {"config", "start", "end", "items", "model_name", "tune"}
    for name in params:
        param = params.get_param(name)
        assert param.description
        param.resolve()  # the default is valid
    for name, wrong in (("tune", -1), ("tune", "many"), ("start", "spring")):
        with pytest.raises(ValueError, match=r"minimum|integer|date"):
            params.get_param(name).resolve(wrong)


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


def test_broken_python_breaks_its_own_dag_only_and_names_the_line(
    copied: Path, bag: DagBag
) -> None:
    (copied / "land_cover_mapping.py").write_text("# airflow dag\n\nimport nothing_like_it\n")
    broken = load(copied)
    [(file, told)] = broken.import_errors.items()
    assert file.endswith("land_cover_mapping.py")
    assert "line 3" in told
    assert "nothing_like_it" in told
    assert set(broken.dags) == set(bag.dags) - {"land_cover_mapping"}
