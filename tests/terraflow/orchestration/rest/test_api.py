"""Odd answers of Airflow's API server, without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from time import sleep
from typing import Any

import httpx
import pytest

from terraflow.errors import ConfigError, ServiceError
from terraflow.orchestration.rest import api as module
from terraflow.orchestration.rest import approvals, backfill, dags, events
from terraflow.orchestration.rest.api import AirflowApi
from terraflow.settings import Settings

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "first_pause_s", 0.0001)


def answering(answer: Answer) -> httpx.MockTransport:
    """Let every login succeed, and ask `answer` for all else."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        return answer(request)

    return httpx.MockTransport(handle)


def documents(known: dict[str, Any]) -> httpx.MockTransport:
    """Answer each path below /api/v2 with a document, others with 404."""

    def answer(request: httpx.Request) -> httpx.Response:
        found = known.get(request.url.path.removeprefix("/api/v2"))
        return httpx.Response(200 if found else 404, json=found or {"detail": "Not found."})

    return answering(answer)


def test_call_repeats_a_get_while_the_server_restarts(settings: Settings) -> None:
    answers = [httpx.Response(503), httpx.Response(200, json={"a": 1})]
    with AirflowApi(settings, transport=answering(lambda _: answers.pop(0))) as api:
        assert api.call("GET", "/x") == {"a": 1}


def test_call_does_not_repeat_a_post_that_is_not_repeatable(settings: Settings) -> None:
    asked: list[str] = []

    def lose(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        raise httpx.ReadError("gone")

    with AirflowApi(settings, transport=answering(lose)) as api:
        with pytest.raises(ServiceError, match=r"does not answer at .* \(gone\); start the stack"):
            api.call("POST", "/x")
        assert len(asked) == 1
        with pytest.raises(ServiceError, match="does not answer"):
            api.call("POST", "/x", again=True)
        assert len(asked) == 1 + api.tries


@pytest.mark.parametrize(
    ("codes", "again", "ends"),
    [
        ([500, 500, 200], True, 200),
        ([500, 500, 500, 200], True, 500),
        ([500, 200], False, 500),
    ],
)
def test_call_write_that_failed_on_a_busy_database_is_sent_again(
    codes: list[int], again: bool, ends: int, settings: Settings
) -> None:
    busy = answering(lambda _: httpx.Response(codes.pop(0), json={"x": 1}))
    with AirflowApi(settings, transport=busy) as api:
        if ends == 200:
            assert api.call("PATCH", "/x", again=again) == {"x": 1}
            return
        with pytest.raises(module.RefusedError, match="PATCH /x with status 500"):
            api.call("PATCH", "/x", again=again)


def test_call_logs_in_again_when_the_login_is_too_old(settings: Settings) -> None:
    answers = [httpx.Response(401), httpx.Response(200, json=[])]
    with AirflowApi(settings, transport=answering(lambda _: answers.pop(0))) as api:
        assert api.call("GET", "/x") == []


def test_call_no_json_is_a_sentence(settings: Settings) -> None:
    page = answering(lambda _: httpx.Response(200, text="<html>"))
    with (
        AirflowApi(settings, transport=page) as api,
        pytest.raises(ServiceError, match="where JSON was expected"),
    ):
        api.call("GET", "/x")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"detail": [{"loc": ["body", "n"], "msg": "wrong"}]}, "body.n: wrong"),
        ({"detail": {"message": "No."}}, "status 422: No;"),
        (["x"], '422: ["x"];'),
    ],
)
def test_call_refusal_tells_airflows_reason(settings: Settings, body: Any, told: str) -> None:
    refusing = answering(lambda _: httpx.Response(422, json=body))
    with (
        AirflowApi(settings, transport=refusing) as api,
        pytest.raises(module.RefusedError) as caught,
    ):
        api.call("POST", "/x")
    assert told in str(caught.value)


@pytest.mark.parametrize(("total", "most"), [(250, 100), (250, 30), (None, 100)])
def test_rows_gives_all_pages(total: int | None, most: int, settings: Settings) -> None:
    """Airflow may be configured to give fewer at once, and not every list tells how long it is."""

    def page(request: httpx.Request) -> httpx.Response:
        start = int(request.url.params["offset"])
        found = [{"n": n} for n in range(250)][start : start + most]
        return httpx.Response(200, json={"rows": found, "total_entries": total})

    with AirflowApi(settings, transport=answering(page)) as api:
        assert [row["n"] for row in api.rows("/x", "rows")] == list(range(250))


def test_announce_posts_to_the_asset_of_just_that_name(settings: Settings) -> None:
    posted: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            posted.append(request.content)
            return httpx.Response(200, json={})
        names = {1: "my_land_cover_champion", 2: "land_cover_champion"}
        rows = [{"id": key, "name": name} for key, name in names.items()]
        return httpx.Response(200, json={"assets": rows, "total_entries": 2})

    transport = answering(answer)
    assert events.announce(settings, "land_cover_champion", {"why": "x"}, transport=transport)
    assert b'"asset_id":2' in posted[0]
    assert not events.announce(settings, "champion", {}, transport=transport)


@pytest.mark.parametrize("status", [401, 404, 500])
def test_announce_never_raises(settings: Settings, status: int) -> None:
    refusing = answering(lambda _: httpx.Response(status))
    assert not events.announce(settings, "x_champion", {}, transport=refusing)
    odd = answering(lambda _: httpx.Response(200, json={"odd": 1}))
    assert not events.announce(settings, "x_champion", {}, transport=odd)
    port = settings.airflow.model_copy(update={"port": 1})
    assert not events.announce(settings.model_copy(update={"airflow": port}), "x", {})


def test_note_run_cuts_what_is_too_long_and_never_raises(settings: Settings) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={})

    assert events.note_run(settings, "d", "r+1", "y" * 5000, transport=answering(answer))
    assert sent[-1].method == "PATCH"
    assert str(sent[-1].url).endswith("/dags/d/dagRuns/r%2B1?update_mask=note")
    assert json.loads(sent[-1].content) == {"note": "y" * 1000}
    refusing = answering(lambda _: httpx.Response(500))
    assert not events.note_run(settings, "d", "r", "x", transport=refusing)


def test_find_dag_unknown_tells_the_nearest(settings: Settings) -> None:
    known = documents({"/dags": {"dags": [{"dag_id": "training"}], "total_entries": 1}})
    with (
        AirflowApi(settings, transport=known) as api,
        pytest.raises(ConfigError, match="not known to Airflow; write one of training"),
    ):
        dags.find_dag(api, "trainig")


def test_read_conf_takes_the_types_of_the_dag() -> None:
    kinds = {"tune": "integer", "config": "string", "start": ["null", "string"]}
    dag = {"params": {name: {"schema": {"type": kind}} for name, kind in kinds.items()}}
    words = ["tune=5", "config=5", "start=null", "other=a=b"]
    expected = {"tune": 5, "config": "5", "start": None, "other": "a=b"}
    assert dags.read_conf(dag, words) == expected
    assert dags.read_conf(dag, ["tune=many"]) == {"tune": "many"}
    with pytest.raises(ConfigError, match="--conf =5 is no key=value"):
        dags.read_conf(dag, ["=5"])


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        ("", "2024-01-01", "--from is missing"),
        ("2024-01-01", "soon", "--to 'soon' is no date"),
        ("2024-02-30", "2024-03-01", "--from '2024-02-30' is no date"),
        ("2024-02-01", "2024-01-01", "--from 2024-02-01 lies after --to 2024-01-01"),
        ("2024-02-01", "9999-01-01", "--to 9999-01-01 lies in the future"),
    ],
)
def test_read_days_wrong_ones_are_sentences(start: str, end: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        backfill.read_days(start, end)


def question(options: list[str], params: dict[str, Any]) -> httpx.MockTransport:
    ti = {"dag_run_id": "r", "task_id": "ask", "map_index": -1, "state": "awaiting_input"}
    row = {"task_instance": ti, "subject": "Shall it?", "options": options, "params": params}
    row["created_at"] = "2024-01-01T00:00:00Z"
    details = {"hitl_details": [row], "total_entries": 1}
    return documents({"/dags/d/details": {"dag_id": "d"}, "/dags/d/dagRuns/~/hitlDetails": details})


def test_approve_other_options_are_told(settings: Settings) -> None:
    with (
        AirflowApi(settings, transport=question(["Yes", "No"], {})) as api,
        pytest.raises(ConfigError, match="Task ask offers Yes, No, not Approve"),
    ):
        approvals.approve(api, "d")


def test_approve_reason_that_is_not_asked_for_is_refused(settings: Settings) -> None:
    with (
        AirflowApi(settings, transport=question(["Approve"], {})) as api,
        pytest.raises(ConfigError, match="asks for no reason"),
    ):
        approvals.approve(api, "d", reason="x")


@pytest.mark.parametrize(
    ("codes", "ends"), [([200], True), ([500, 200], True), ([500, 500], False), ([403], False)]
)
def test_approve_answers_once_more_where_airflow_itself_failed(
    codes: list[int], ends: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "PAUSE_S", 0)
    ask, left = question(["Approve", "Reject"], {}).handler, list(codes)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH":
            return httpx.Response(left.pop(0), json={"detail": "as it is"})
        return ask(request)  # type: ignore[return-value]

    with AirflowApi(settings, transport=httpx.MockTransport(answer)) as api:
        if ends:
            approvals.approve(api, "d")
        else:
            with pytest.raises(ServiceError, match=f"status {codes[-1]}: as it is"):
                approvals.approve(api, "d")
    assert left == []


def test_approve_waits_until_airflow_knows_that_the_task_waits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(approvals, "AGE_S", 0.2)
    monkeypatch.setattr(approvals.time, "sleep", lambda s: waited.append(s) or sleep(0.05))
    asked = datetime.now(UTC).isoformat()
    approvals._await_age({"created_at": asked})
    assert (datetime.now(UTC) - datetime.fromisoformat(asked)).total_seconds() >= 0.2
    assert waited
    waited.clear()
    approvals._await_age({"created_at": asked})
    assert waited == []
