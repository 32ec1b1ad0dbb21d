"""The list of the DAGs, and backfills, against answers as Airflow gives them."""

from __future__ import annotations

import subprocess
from datetime import date
from typing import Any

import httpx
import pytest

from terraflow.errors import ConfigError, ServiceError
from terraflow.orchestration.rest import backfill, dags
from terraflow.orchestration.rest.api import AirflowApi
from terraflow.settings import Settings

DAYS = date(2024, 1, 1), date(2024, 2, 1)


class Airflow:
    """Answers of the API by path."""

    def __init__(self, settings: Settings) -> None:
        self.documents: dict[str, Any] = {
            "/importErrors": {"import_errors": []},
            "/assets": {"assets": [{"name": n, "scheduled_dags": [{"dag_id": "d"}]} for n in "ab"]},
            "/dags/d/details": {"dag_id": "d", "is_paused": False, "is_backfillable": True},
        }
        self.api = AirflowApi(settings, transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        found = self.documents.get(request.url.path.removeprefix("/api/v2"))
        found = found.pop(0) if isinstance(found, list) else found
        return httpx.Response(200 if found else 404, json=found or {"detail": "Not found"})


@pytest.fixture
def airflow(settings: Settings) -> Airflow:
    return Airflow(settings)


def run(run_id: str, kind: str, state: str = "success", **more: Any) -> dict[str, Any]:
    day = "2024-01-01T05:00:00Z"
    row = {"dag_run_id": run_id, "dag_id": "d", "run_type": kind, "state": state}
    row |= {"start_date": day, "run_after": day, "data_interval_start": day}
    return row | {"data_interval_end": "2024-02-01T05:00:00Z"} | more


def dag(summary: str, told: str = "", *, paused: bool = False) -> dict[str, Any]:
    row = {"dag_id": "d", "is_paused": paused, "next_dagrun_run_after": "2024-03-01T00:00:00Z"}
    return row | {"timetable_summary": summary, "timetable_description": told}


@pytest.mark.parametrize(
    ("known", "last", "told"),
    [
        (dag("0 0 * * 0", "At 00:00"), run("r", "scheduled"), ["at 00:00", "schedule"]),
        (dag("Asset"), run("r", "backfill"), ["when updated: a, b", "backfill"]),
        (
            dag("Never, external triggers only"),
            run("r", "manual", triggering_user_name="admin"),
            ["by hand", "by hand by admin", "success 2024-01-01 05:00"],
        ),
        (
            dag("Asset or daily at 05:00"),
            run("r", "asset_triggered"),
            ["daily at 05:00, and when updated: a, b", "x_champion: It is better."],
        ),
    ],
)
def test_print_dags_tells_schedule_and_why(
    known: dict[str, Any],
    last: dict[str, Any],
    told: list[str],
    airflow: Airflow,
    capsys: pytest.CaptureFixture[str],
) -> None:
    event = {"name": "x_champion", "uri": "x", "extra": {"why": "It is better."}}
    airflow.documents |= {
        "/dags": {"dags": [known]},
        "/dags/d/dagRuns": {"dag_runs": [last]},
        "/dags/d/dagRuns/r/upstreamAssetEvents": {"asset_events": [event, event]},
    }
    with airflow.api as api:
        dags.print_dags(api)
    cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[1].split("  ") if cell]
    assert set(told) <= set(cells)
    assert "2024-03-01 00:00" in cells


def test_print_dags_paused_has_no_next_run_and_errors_have_lines(
    airflow: Airflow, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = '  File "/x/dags/b.py", line 7, in <module>\nZeroDivisionError: division by zero\n'
    error = {"filename": "b.py", "stack_trace": trace}
    airflow.documents |= {
        "/dags": {"dags": [dag("Asset", paused=True)]},
        "/dags/d/dagRuns": {"dag_runs": []},
        "/importErrors": {"import_errors": [error]},
    }
    with airflow.api as api:
        dags.print_dags(api)
    said = capsys.readouterr().out
    assert "2024-03" not in said
    assert "never ran" in said
    assert "b.py, line 7 can't be imported: ZeroDivisionError: division by zero" in said


def answers_of_command(monkeypatch: pytest.MonkeyPatch, *said: str) -> None:
    """Let Airflow's command say one after another; "" is a success."""
    left = list(said)

    def ran(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        error = left.pop(0)
        return subprocess.CompletedProcess(words, int(bool(error)), "", error)

    monkeypatch.setattr(subprocess, "run", ran)
    monkeypatch.setattr(backfill, "PAUSE_S", 0)


def test_backfill_locked_database_is_tried_again_and_a_failed_run_is_told(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers_of_command(monkeypatch, "x\nOperationalError: database is locked\n(Background)", "")
    old, new = run("old", "scheduled"), run("new", "backfill", "failed")
    airflow.documents["/dags/d/dagRuns"] = [{"dag_runs": [old]}, {"dag_runs": [new, old]}]
    with airflow.api as api:
        assert backfill.backfill(api, "d", DAYS, {}) == 1
    assert capsys.readouterr().out.splitlines() == [
        "Backfill of d from 2024-01-01 to 2024-02-01",
        "  2024-01-01 to 2024-02-01: there is run old already (success)",
        "  1/1 2024-01-01 to 2024-02-01: failed; see `invoke dags logs d --run new`",
    ]


def test_backfill_beside_another_is_refused(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_of_command(monkeypatch, "airflow.models.backfill.AlreadyRunningBackfill: no")
    airflow.documents["/dags/d/dagRuns"] = {"dag_runs": [run("r", "backfill", "running")]}
    with airflow.api as api, pytest.raises(ConfigError, match="of d is running already; wait"):
        backfill.backfill(api, "d", DAYS, {})


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Warning: no runs", "schedule of d has no run from 2024-01-01 to 2024-02-01"),
        ("Traceback\nairflow.x.OddError: odd.", r"refused the backfill of d \(OddError: odd\)"),
    ],
)
def test_backfill_refusals_are_sentences(
    said: str, told: str, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_of_command(monkeypatch, said)
    airflow.documents["/dags/d/dagRuns"] = {"dag_runs": [run("r", "scheduled")]}
    with airflow.api as api, pytest.raises((ConfigError, ServiceError), match=told):
        backfill.backfill(api, "d", DAYS, {})


def test_backfill_without_dates_or_paused_is_refused(airflow: Airflow) -> None:
    known = airflow.documents["/dags/d/details"]
    with airflow.api as api:
        known["is_paused"] = True
        with pytest.raises(ServiceError, match="`invoke dags unpause d`"):
            backfill.backfill(api, "d", DAYS, {})
        known["is_backfillable"] = False
        with pytest.raises(ConfigError, match="no schedule by date"):
            backfill.backfill(api, "d", DAYS, {})


@pytest.mark.parametrize(("code", "fails"), [(500, False), (403, True)])
def test_print_dags_goes_on_where_airflow_can_not_name_the_assets_yet(
    code: int, fails: bool, airflow: Airflow, capsys: pytest.CaptureFixture[str]
) -> None:
    """Airflow answers 500 as long as a run that an event started waits in the queue."""
    usual = airflow.answer

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/upstreamAssetEvents"):
            return httpx.Response(code, text="Internal Server Error")
        return usual(request)

    airflow.documents |= {
        "/dags": {"dags": [dag("Asset")], "total_entries": 1},
        "/dags/d/dagRuns": {"dag_runs": [run("r", "asset_triggered", "queued")]},
    }
    airflow.api = AirflowApi(airflow.api.settings, transport=httpx.MockTransport(answer))
    with airflow.api:
        if fails:
            with pytest.raises(ServiceError, match="status 403"):
                dags.print_dags(airflow.api)
            return
        dags.print_dags(airflow.api)
    assert "assets that were updated; Airflow names them when" in capsys.readouterr().out
