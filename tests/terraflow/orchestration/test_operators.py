"""What a task makes of a step's inputs, outputs and errors; with Airflow in the stack tests."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, chain
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
)

from small_disks import small_disk
from terraflow.eo import steps
from terraflow.eo.promotion.promote import Promoted
from terraflow.errors import (
    ConfigError,
    DataError,
    DiskError,
    NothingToDoError,
    ServiceError,
    StorageError,
    TerraFlowError,
)
from terraflow.orchestration.assets import scenes
from terraflow.orchestration.deployment import DeployOperator
from terraflow.orchestration.operators import (
    AnnounceOperator,
    StepOperator,
    open_with,
    plain,
    told_to_airflow,
)
from terraflow.orchestration.reasons import event_inputs, result_link
from terraflow.settings import Settings

#: What the task before `deploy` returns.
PROMOTED = Promoted(name="m", version="1", promoted=True, reason="It is better.")


def event(minute: int, **extra: Any) -> SimpleNamespace:
    return SimpleNamespace(timestamp=datetime(2024, 1, 1, 0, minute, tzinfo=UTC), extra=extra)


def context(
    before: Any = None, events: dict[str, list[Any]] | None = None, **params: Any
) -> dict[str, Any]:
    """What Airflow gives a task: the parts that are used."""
    ti = SimpleNamespace(
        dag_id="dag",
        run_id="run",
        task_id="task",
        map_index=-1,
        xcom_pull=lambda task_ids: (before or {}).get(task_ids),  # noqa: PLW0108
    )
    run = SimpleNamespace(dag_id="dag", run_id="run")
    return {
        "ti": ti,
        "params": params,
        "dag_run": run,
        "triggering_asset_events": events or {},
        "outlet_events": {},
    }


def after(operator: Any, *names: str) -> Any:
    operator.upstream_task_ids = set(names)
    return operator


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Steps that were run, instead of working."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def run_step(name: str, _: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        calls.append((name, inputs))
        return {"url": "http://mlflow/run", "score": math.nan, "rows": [{"a": 1}]}

    monkeypatch.setattr(steps, "run_step", run_step)
    monkeypatch.setattr(steps, "check_steps", lambda *_: None)
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    return calls


def test_step_gets_params_what_came_before_and_its_own_inputs(
    ran: list[tuple[str, dict[str, Any]]],
) -> None:
    operator = after(StepOperator(step="train", inputs={"own": 1}), "preprocess")
    before = {"preprocess": {"samples": "s3://b/s", "tune": 7}}
    outputs = operator.execute(context(before, config="", tune=3, start=None))
    [(name, inputs)] = ran
    assert name == "train"
    assert {key: inputs[key] for key in ("samples", "tune", "own")} == {
        "samples": "s3://b/s",
        "tune": 7,
        "own": 1,
    }
    assert "start" not in inputs
    assert inputs["key"] == "dag/run/task/-1"
    assert inputs["why"] == "Run run of dag in Airflow."
    assert json.dumps(outputs, allow_nan=False)  # which Airflow insists on
    assert operator.link == "http://mlflow/run"


def test_step_after_a_mapped_one_gets_lists(ran: list[tuple[str, dict[str, Any]]]) -> None:
    operator = after(StepOperator(step="report"), "map")
    operator.execute(context({"map": [{"map": "a"}, None, {"map": "b"}]}))
    assert ran[0][1]["map"] == ["a", "b"]


def test_step_that_is_mapped_over_returns_the_list(ran: list[Any]) -> None:
    with DAG("alone", schedule=None):
        operator = StepOperator(step="scenes", returns="rows")
    assert operator.execute(context()) == [{"a": 1}]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ConfigError("The key is wrong."), AirflowFailException),
        (DataError("No labels."), AirflowFailException),
        (TerraFlowError("Ours."), AirflowFailException),
        (NothingToDoError("No champion yet."), AirflowSkipException),
        (StorageError("The store is away."), StorageError),
        (ServiceError("MLflow is away."), ServiceError),
        (OSError("the disk is gone"), OSError),
    ],
)
def test_step_fails_at_once_only_where_another_try_ends_the_same(
    error: Exception, raised: type[Exception], ran: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(steps, "run_step", fail)
    with DAG("alone", schedule=None):
        operator = StepOperator(step="train")
    with pytest.raises(raised, match=str(error)) as caught:
        operator.execute(context())
    assert type(caught.value) is raised


@pytest.mark.parametrize("value", [False, None, [], ""])
def test_task_with_a_condition_is_skipped(value: Any, ran: list[Any]) -> None:
    operator = after(StepOperator(step="ingest", when="waiting"), "arrived")
    with pytest.raises(AirflowSkipException, match="Nothing to do: waiting is"):
        operator.execute(context({"arrived": {"waiting": value}}))
    assert ran == []


def test_first_task_checks_all_steps_of_its_dag(
    ran: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[list[str]] = []
    monkeypatch.setattr(steps, "check_steps", lambda names, *_: checked.append(list(names)))
    with DAG("whole", schedule=None):
        first, second = StepOperator(step="ingest"), StepOperator(step="train")
        chain(first, second)
    first.execute(context())
    second.execute(context({"ingest": {}}))
    assert checked == [["ingest", "train"]]


def test_announce_tells_what_is_small_and_why() -> None:
    asset = scenes("land_cover")
    operator = after(AnnounceOperator(task_id="tell", when="collections", outlets=[asset]), "x")
    told = SimpleNamespace(extra={})
    given = context({"x": {"collections": ["a"], "reason": "New.", "big": "b" * 9999}})
    given["outlet_events"] = {asset: told}
    operator.execute(given)
    assert told.extra == {"collections": ["a"], "why": "New."}


def test_deploy_is_skipped_where_nothing_was_promoted() -> None:
    operator = after(DeployOperator(host="me@server"), "promote")
    with pytest.raises(AirflowSkipException, match="Nothing to do: promoted is False"):
        operator.execute(
            context({"promote": PROMOTED.model_copy(update={"promoted": False}).to_dict()})
        )


def test_deploy_is_skipped_where_no_machine_is_named(settings: Settings) -> None:
    operator = after(DeployOperator(), "promote")
    with pytest.raises(AirflowSkipException, match=r"\[serving\] deploy_host is empty"):
        operator.execute(context({"promote": PROMOTED.to_dict()}))


def test_deploy_takes_the_machine_from_the_settings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRAFLOW_SERVING_DEPLOY_HOST", "a b")
    operator = after(DeployOperator(), "promote")
    with pytest.raises(AirflowException, match="was not deployed to a b: 'a b' is no host"):
        operator.execute(context({"promote": PROMOTED.to_dict()}))


def test_deploy_runs_the_task_and_tells_why_it_failed(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = after(DeployOperator(host="gone", words=["--what", "moon"]), "promote")
    with pytest.raises(AirflowException, match=r"models:/m/1 was not deployed to gone: .*moon"):
        operator.execute(context({"promote": PROMOTED.to_dict()}))
    assert "--what moon is not known" in capsys.readouterr().out


def test_event_inputs_join_events_in_the_order_of_time() -> None:
    events = {
        "a": [event(2, why="Second.", collections=["y", "x"])],
        "b": [event(1, why="First.", collections=["x"]), event(3, why="First.")],
    }
    found = event_inputs(context(events=events))
    assert found["collections"] == ["x", "y"]
    assert found["why"] == "Run run of dag in Airflow, since: First. Second."


@pytest.mark.parametrize(
    ("store", "outputs", "expected"),
    [
        ("local", {"url": "http://h/run"}, "http://h/run"),
        (
            "minio",
            {"map": "s3://eo-data/p/maps/a b/map.tif"},
            "/browser/eo-data/p%2Fmaps%2Fa%20b%2F",
        ),
        ("local", {"map": "/data/map.tif"}, ""),
        ("minio", {"map": ["s3://b/1", "s3://b/2"]}, ""),
        ("minio", {}, ""),
    ],
)
def test_result_link_leads_to_run_or_map(
    store: str, outputs: dict[str, Any], expected: str, settings: Settings
) -> None:
    found = result_link(outputs, settings.model_copy(update={"store": store}))
    assert found.endswith(expected)
    assert bool(found) == bool(expected)


def test_plain_keeps_all_but_numbers_that_json_lacks() -> None:
    value = {"a": (1.5, math.inf), "b": [{"c": math.nan}], "d": "text", "e": None}
    assert plain(value) == {"a": [1.5, "inf"], "b": [{"c": "nan"}], "d": "text", "e": None}


def test_open_with_takes_dates_and_model_of_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    project = open_with({"start": "2024-05-01", "end": None, "model_name": "lightgbm"})
    data = project.config.data
    assert (str(data.start), str(data.end)) == ("2024-05-01", "2024-09-30")
    assert project.config.model.name == "lightgbm"
    assert project.config.model.parameters == {}


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"start": "2025-01-01"}, "2025-01-01 is after end 2024-09-30; swap them"),
        ({"end": "spring"}, "Dates 2024-04-01 to spring are wrong"),
    ],
)
def test_open_with_wrong_dates_is_a_sentence(
    params: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    with pytest.raises(ConfigError, match=told):
        open_with(params)


def test_full_disk_is_told_to_airflow_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk("64k") as disk:
        monkeypatch.setenv("TERRAFLOW_VAR", str(disk))
        with pytest.raises(DiskError, match=f"at {disk} is full"), told_to_airflow():
            (disk / "file").write_bytes(bytes(10**6))
