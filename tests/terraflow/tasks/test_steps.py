"""Mistakes on the command line are told before any work, and without a running stack."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context

from terraflow.config import project_root
from terraflow.eo import steps
from terraflow.eo.step_table import STEPS
from terraflow.orchestration.rest import dag_runs, events
from terraflow.tasks import namespace
from terraflow.tasks.steps import STEP_TASKS

ROOT = Path(__file__).resolve().parents[3]
#: DAG, parameters, tasks whose results count.
Call = tuple[str, dict[str, Any], list[str]]
OWN = """
from terraflow.eo.project import Project

def export(project, inputs):
    return {"archive": f"of {project.config.name}"}

def broken(project, inputs):
    raise ValueError("no archive")

PROJECT = Project("land_cover", steps={"export": export, "broken": broken})
"""


def invoke(*words: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `invoke WORDS`."""
    return subprocess.run(
        [sys.executable, "-m", "invoke", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | variables,
    )


def refused(*words: str, **more: Any) -> str:
    """Run `invoke WORDS`, which must end with a sentence."""
    done = invoke(*words, **more)
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


def test_tasks_every_step_has_one() -> None:
    assert set(STEPS) == set(STEP_TASKS) <= set(namespace.task_names)


def test_tasks_former_names_of_steps_still_work() -> None:
    aliases = {alias: row.name for row in STEPS.values() for alias in row.aliases}
    assert aliases["explain"] == "origin"
    for alias, name in aliases.items():
        assert namespace[alias] is namespace[name] is STEP_TASKS[name]
    old, new = (refused(name, "nowhere.tif") for name in ("explain", "origin"))
    assert old == new
    assert "nowhere.tif can't be read" in new


@pytest.mark.parametrize("name", STEPS)
def test_task_help_follows_the_row(name: str) -> None:
    row = STEPS[name]
    done = invoke("--help", name)
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert row.summary in told
    for option in row.options:
        dashes = "--" if len(option.name) > 1 else "-"
        flag = f"{dashes}{option.name.replace('_', '-')}"
        assert re.search(rf"{flag}(=STRING| |$)", told), flag
        assert option.help in told
    flags = set(re.findall(r"--([a-z-]+)", done.stdout.partition("Options:")[2]))
    known = {option.name.replace("_", "-") for option in row.options if len(option.name) > 1}
    assert flags - {"airflow"} == known
    assert ("airflow" in flags) == bool(row.dag)


def test_task_required_option_may_be_given_by_name() -> None:
    assert refused("origin", "--file", "nowhere.tif") == refused("origin", "nowhere.tif")
    done = invoke("reproduce")
    assert done.returncode != 0
    assert "'file'" in done.stderr


@pytest.fixture
def dag_calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """DAGs that were asked for, instead of being run."""
    calls: list[Call] = []

    def run_dag(
        _: Any, dag_id: str, conf: dict[str, Any], *, result_tasks: list[str]
    ) -> dict[str, Any]:
        calls.append((dag_id, conf, result_tasks))
        return {"run_id": "1"}

    monkeypatch.setattr(dag_runs, "run_dag", run_dag)
    monkeypatch.setattr(steps, "show", lambda *_: 0)
    monkeypatch.setattr(steps, "check", lambda *_: None)
    return calls


def test_train_airflow_passes_the_options_that_are_given(
    dag_calls: list[Call], config_dir: Path
) -> None:
    train = STEP_TASKS["train"]
    config = str(config_dir / "land_cover.toml")
    train(Context(), config="", items="", tune="", airflow=True)
    train(Context(), config=config, items="s3://b/items.json", tune="5", airflow=True)
    assert dag_calls == [
        ("land_cover_training", {"config": ""}, ["train", "gate", "promote"]),
        (
            "land_cover_training",
            {"config": config, "items": "s3://b/items.json", "tune": 5},
            ["train", "gate", "promote"],
        ),
    ]


def test_train_airflow_wrong_option_runs_no_dag(
    dag_calls: list[Call],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.undo()
    calls: list[Any] = []
    monkeypatch.setattr(dag_runs, "run_dag", lambda *words, **_: calls.append(words))
    with pytest.raises(SystemExit) as ended:
        STEP_TASKS["train"](Context(), config="", items="", tune="-1", airflow=True)
    assert ended.value.code == 1
    assert "--tune -1 is no number of trials" in capsys.readouterr().err
    assert calls == dag_calls == []


@pytest.mark.parametrize("words", [("--output", "x.tif"), ("--model", "models:/x/1")])
def test_map_airflow_refuses_what_its_dag_does_not_take(words: tuple[str, str]) -> None:
    said = refused("map", "--airflow", *words)
    assert said.startswith(f"{words[0]} ")
    assert "a DAG takes --config, --items: leave it out, or leave out --airflow." in said


def test_map_airflow_shows_each_map_or_says_that_none_was_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    maps = [{"map": f"s3://b/{n}.tif", "item": f"s3://b/{n}.json"} for n in (1, 2)]
    found: dict[str, Any] = {"mapped": maps}
    monkeypatch.setattr(steps, "check", lambda *_: None)
    monkeypatch.setattr(dag_runs, "run_dag", lambda *_, **__: found)
    given = dict.fromkeys(("config", "items", "model", "output", "trust"), "") | {"airflow": True}
    STEP_TASKS["map"](Context(), **given)
    said = capsys.readouterr().out
    assert "Map: s3://b/1.tif" in said
    assert "Map: s3://b/2.tif" in said
    found.clear()
    STEP_TASKS["map"](Context(), **given)
    assert "Nothing was left to do for map" in capsys.readouterr().out


@pytest.mark.parametrize("promoted", [True, False])
def test_promote_tells_airflow_of_a_new_champion_only(
    promoted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    outputs = {"name": "land-cover", "version": "2", "promoted": promoted, "reason": "Better."}
    monkeypatch.setattr(steps, "run_up_to", lambda *_: outputs)
    monkeypatch.setattr(steps, "show", lambda *_: 0)
    monkeypatch.setattr(events, "announce", lambda _, *words: told.append(words))
    STEP_TASKS["promote"](Context(), run_id="abc")
    extra = {"model": "models:/land-cover/2", "why": "Better."}
    assert told == [("land_cover_champion", extra)] * promoted


@pytest.fixture
def own_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A folder whose project has steps of its own: what `invoke` needs to run there."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[tool.terraflow]\nproject = "owned:PROJECT"\n')
    (folder / "owned.py").write_text(OWN)
    for name in ("Procfile", "tasks.py"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    paths = os.environ.get("PYTHONPATH", "")
    monkeypatch.delenv("TERRAFLOW_ROOT", raising=False)
    return {"cwd": folder, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT / 'src'}{os.pathsep}{paths}"}


def test_step_of_the_project_runs_by_its_name(own_project: dict[str, Any]) -> None:
    done = invoke("step", "export", **own_project)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "archive: of land-cover\n"


def test_step_of_the_project_that_fails_is_a_sentence(own_project: dict[str, Any]) -> None:
    said = refused("step", "broken", **own_project)
    assert "Step broken (owned:broken) failed with ValueError: no archive" in said


def test_step_unknown_name_tells_the_nearest(own_project: dict[str, Any]) -> None:
    said = refused("step", "exprot", **own_project)
    assert said == "Step 'exprot' is not known; write one of export, promote, reproduce."
    assert "write one of train" in refused("step", "trian")


TRAINED = {
    "run_id": "abc",
    "url": "http://localhost/run",
    "model": "models:/land-cover/2",
    "scores": {"overall_accuracy": [0.9, 0.8, 1.0], "macro_f1": [0.8, 0.7, 0.9]},
    "at_random": {"overall_accuracy": 0.95, "macro_f1": 0.91},
    "headline": ["overall_accuracy", "macro_f1"],
    "simulated": False,
    "verdict": {
        "name": "land-cover",
        "version": "2",
        "run_id": "abc",
        "champion": "1",
        "promote": True,
        "reason": "Better.",
        "scores": {"macro_f1": [0.8, None]},
    },
    "promoted": True,
    "reason": "Better.",
}


@pytest.mark.parametrize(
    ("started_by", "hints"),
    [
        ({}, ["invoke serve --run-id abc", "invoke map --model models:/land-cover/2"]),
        (
            {"TERRAFLOW_STARTED_BY": "make"},
            ['make serve ARGS="--run-id abc"', 'make map ARGS="--model models:/land-cover/2"'],
        ),
        (
            {"PIXI_PROJECT_ROOT": "/x", "INIT_CWD": "/x"},
            ["pixi run serve --run-id abc", "pixi run map --model models:/land-cover/2"],
        ),
    ],
)
def test_train_show_names_the_next_commands_as_the_user_types_them(
    started_by: dict[str, str],
    hints: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from terraflow.eo.project import open_project

    assert project_root() == ROOT
    project = open_project()
    for name in ("TERRAFLOW_STARTED_BY", "PIXI_PROJECT_ROOT", "INIT_CWD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in started_by.items():
        monkeypatch.setenv(name, value)
    assert steps.show("train", project, TRAINED) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Better. It is the champion now."
    assert f"Serve it: {hints[0]}" in lines
    assert f"Map with it: {hints[1]}" in lines
    assert "Over random folds, which is optimistic: 0.950 and 0.910" in lines
    assert re.search(r"^macro F1 +0.800 *$", "\n".join(lines), re.MULTILINE)
