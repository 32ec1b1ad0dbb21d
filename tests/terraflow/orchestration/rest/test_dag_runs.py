"""Following a DAG run, against a server that answers as Airflow's API does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from terraflow.credentials import read_secrets
from terraflow.errors import ServiceError
from terraflow.orchestration.rest import api, dag_runs, pauses, scheduler, task_logs
from terraflow.orchestration.rest.dag_runs import run_dag
from terraflow.settings import Settings

RUN = "/api/v2/dags/training/dagRuns/manual__1"


class Airflow:
    """What the server knows: it counts requests, and gives answers by the number of the look."""

    def __init__(self) -> None:
        self.password = ""
        self.known_after = 0
        self.states = ["queued", "running", "success"]
        self.tasks: list[list[dict[str, Any]]] = [
            [],
            [task("ingest", "running")],
            [task("ingest", "success"), task("train", "success")],
        ]
        self.log: list[Any] = []
        self.more_log: list[Any] = []  # what the second part of it has
        self.event_logs: list[dict[str, Any]] = []
        self.scheduler_log: Path | None = None
        self.other_runs: list[str] = []
        self.import_errors: list[dict[str, str]] = []
        self.lose = self.lose_posts = 0  # connections to be cut
        self.conf: Any = None
        self.paused = self.paused_later = False
        self.started: list[str] = []
        self.health = "healthy"
        self.returned: dict[str, Any] = {"train": {"model": "models:/x/1"}}
        self.looks = 0
        self.asked: list[str] = []

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Give status and document."""
        if path == "/auth/token":
            right = body == {"username": "admin", "password": self.password}
            return (201, {"access_token": "t0ken"}) if right else (401, {"detail": "no"})
        if method == "PATCH":
            self.paused = self.paused_later = body["is_paused"]
            return 200, {}
        if method == "POST":
            self.conf = body["conf"]
            self.started.append(run := body["dag_run_id"])
            if self.scheduler_log:
                self.scheduler_log.parent.mkdir(parents=True, exist_ok=True)
                self.scheduler_log.write_text(f"[error] {run} ingest: no memory\n[info] {run} x\n")
            return 409 if len(set(self.started)) < len(self.started) else 200, {}
        if self.started:
            path = unquote(path).replace(self.started[-1], "manual__1")
        if path == f"{RUN}/taskInstances":
            self.looks += 1
        elif path == "/api/v2/dags":
            self.known_after -= 1
        look = min(max(self.looks - path.endswith("taskInstances"), 0), len(self.states) - 1)
        dag = {"dag_id": "training", "is_paused": self.paused}
        documents: dict[str, Any] = {
            "/api/v2/dags": {"dags": [dag] if self.known_after < 0 else []},
            "/api/v2/dags/training": dag | {"is_paused": self.paused or self.paused_later},
            "/api/v2/importErrors": {"import_errors": self.import_errors},
            "/api/v2/monitor/health": {"scheduler": {"status": self.health}},
            RUN: {"state": self.states[look]},
            f"{RUN}/taskInstances": {"task_instances": self.tasks[min(look, len(self.tasks) - 1)]},
            **{
                f"{RUN}/taskInstances/{name}/xcomEntries/return_value": {"value": value}
                for name, value in self.returned.items()
            },
            f"{RUN}/taskInstances/ingest/logs/1": {
                "content": self.log,
                "continuation_token": "t" if self.more_log else None,
            },
            f"{RUN}/taskInstances/ingest/logs/1?token=t": {"content": self.more_log},
            "/api/v2/eventLogs": {"event_logs": self.event_logs},
            "/api/v2/dags/training/dagRuns": {
                "dag_runs": [{"dag_run_id": name} for name in self.other_runs]
            },
        }
        return (200, documents[path]) if path in documents else (404, {"detail": "Not found"})


def task(
    name: str, state: str, duration: float | None = None, map_index: int = -1
) -> dict[str, Any]:
    return {
        "task_id": name,
        "map_index": map_index,
        "state": state,
        "start_date": "2026-01-01",
        "duration": duration,
        "try_number": 1,
    }


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Airflow, int]]:
    known = Airflow()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply("GET")

        def do_POST(self) -> None:
            self.reply("POST")

        def do_PATCH(self) -> None:
            self.reply("PATCH")

        def reply(self, method: str) -> None:
            size = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(size)) if size else None
            path = self.path.partition("?")[0]
            known.asked.append(f"{method} {path}")
            lost = known.lose_posts and method == "POST" and path.endswith("/dagRuns")
            if lost:
                known.lose_posts -= 1
                known.answer(method, path, body)
                self.connection.close()
                return
            if known.lose and method == "GET" and "/dagRuns/" in path:
                known.lose -= 1
                self.connection.close()
                return
            if path != "/auth/token":
                assert self.headers["Authorization"] == "Bearer t0ken"
            path += "?token=t" if "token=t" in self.path else ""
            status, document = known.answer(method, path, body)
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(dag_runs, "POLL_S", 0.01)
    monkeypatch.setattr(api, "first_pause_s", 0.001)
    yield known, server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def stack(airflow: tuple[Airflow, int], settings: Settings) -> Settings:
    known, port = airflow
    changed = settings.model_copy(
        update={"airflow": settings.airflow.model_copy(update={"port": port})}
    )
    known.password = read_secrets(changed)["airflow_password"]
    return changed


def test_run_dag_prints_each_state_once_and_gives_the_result(
    airflow: tuple[Airflow, int], stack: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    known, port = airflow
    known.states = ["queued", "running", "running", "success"]
    done = [task("ingest", "success", 1.25), task("train", "success", 7.0)]
    known.tasks = [[], [task("ingest", "running")], [task("ingest", "running")], done]
    result = run_dag(stack, "training", {"tune": 3}, result_tasks=["train"])
    assert result == {"model": "models:/x/1"}
    assert known.conf == {"tune": 3}
    [started] = known.started
    assert capsys.readouterr().out.splitlines() == [
        f"DAG run {started}: http://127.0.0.1:{port}/dags/training/runs/{started}",
        "  ingest: running",
        "  ingest: success after 1.2 s",
        "  train: success after 7.0 s",
    ]


def test_run_dag_waits_for_a_dag_that_is_not_parsed_yet(
    airflow: tuple[Airflow, int], stack: Settings
) -> None:
    airflow[0].known_after = 2
    assert run_dag(stack, "training", {}, result_tasks=["train"])


def test_run_dag_unknown_dag_is_a_sentence(
    airflow: tuple[Airflow, int], stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow[0].known_after = 10**6
    monkeypatch.setattr(dag_runs, "PARSE_S", 0.05)
    with pytest.raises(ServiceError, match="does not know the DAG training after 0 s"):
        run_dag(stack, "training", {}, result_tasks=["train"])


def test_run_dag_that_cant_be_imported_gives_the_last_line_of_why(
    airflow: tuple[Airflow, int], stack: Settings
) -> None:
    airflow[0].known_after = 10**6
    trace = "Traceback ...\nNameError: name 'x' is not defined\n"
    airflow[0].import_errors = [{"filename": "dags/training.py", "stack_trace": trace}]
    with pytest.raises(ServiceError, match=r"training\.py can't be imported by Airflow: NameError"):
        run_dag(stack, "training", {}, result_tasks=["train"])


def test_run_dag_failed_task_gives_the_end_of_its_log(
    airflow: tuple[Airflow, int], stack: Settings
) -> None:
    known = airflow[0]
    known.states = ["running", "failed"]
    known.tasks = [[task("ingest", "running")], [task("ingest", "failed", 2.0)]]
    detail = [{"exc_type": "AirflowFailException", "exc_value": "No item of x"}]
    known.log = [
        *({"event": f"line {number}"} for number in range(40)),
        {"event": "Task failed", "error_detail": detail},
    ]
    with pytest.raises(ServiceError) as caught:
        run_dag(stack, "training", {}, result_tasks=["train"])
    said = str(caught.value).splitlines()
    assert said[0].startswith("Task ingest failed; the end of its log")
    assert said[-1].strip() == "Task failed AirflowFailException: No item of x"
    assert len(said) == 1 + task_logs.LOG_LINES


def test_run_dag_failed_task_gives_the_end_of_a_log_that_comes_in_parts(
    airflow: tuple[Airflow, int], stack: Settings
) -> None:
    known = airflow[0]
    known.states, known.tasks = ["failed"], [[task("ingest", "failed", 2.0)]]
    known.log, known.more_log = [{"event": "first part"}], [{"event": "the reason"}]
    with pytest.raises(ServiceError, match=r"first part\n    the reason$"):
        run_dag(stack, "training", {}, result_tasks=["train"])


@pytest.mark.parametrize("known_by", ["its notes", "its log", "nothing"])
def test_run_dag_failed_task_without_a_log_gives_what_the_scheduler_says(
    known_by: str, airflow: tuple[Airflow, int], stack: Settings
) -> None:
    known = airflow[0]
    known.states, known.tasks = ["failed"], [[task("ingest", "failed", 2.0)]]
    known.log = [{"event": "::group::Log message source details"}, {"event": "::endgroup::"}]
    if known_by == "its notes":
        known.event_logs = [
            {"event": "running", "extra": "not the scheduler's", "map_index": -1},
            {"event": "heartbeat timeout", "extra": "no heartbeat", "map_index": -1},
            {"event": "heartbeat timeout", "extra": "of another instance", "map_index": 3},
        ]
    if known_by == "its log":
        known.scheduler_log = stack.log_dir / "airflow-scheduler.log"
    with pytest.raises(ServiceError) as caught:
        run_dag(stack, "training", {}, result_tasks=["train"])
    head, *told = str(caught.value).splitlines()
    assert head == "Task ingest failed; the end of its log:"
    [line] = told
    wanted = {
        "its notes": "    Airflow's scheduler: heartbeat timeout: no heartbeat",
        "its log": f"    [error] {known.started[0]} ingest: no memory",
        "nothing": "    Its log is empty; see `invoke logs airflow-scheduler`.",
    }
    assert line == wanted[known_by]


def test_run_dag_that_fails_before_any_task_names_the_scheduler(
    airflow: tuple[Airflow, int], stack: Settings
) -> None:
    known = airflow[0]
    known.states, known.tasks = ["failed"], [[]]
    with pytest.raises(ServiceError, match=r"before any task did.*airflow-scheduler"):
        run_dag(stack, "training", {}, result_tasks=["train"])


def test_run_dag_wrong_password_is_a_sentence(
    airflow: tuple[Airflow, int], stack: Settings
) -> None:
    airflow[0].password = "another"
    with pytest.raises(ServiceError, match="refused the login of admin with status 401"):
        run_dag(stack, "training", {}, result_tasks=["train"])


def test_run_dag_goes_on_after_a_lost_connection(
    airflow: tuple[Airflow, int], stack: Settings
) -> None:
    airflow[0].lose = 2
    assert run_dag(stack, "training", {}, result_tasks=["train"]) == {"model": "models:/x/1"}


def test_run_dag_without_airflow_says_how_to_start_it(settings: Settings) -> None:
    closed = settings.model_copy(
        update={"airflow": settings.airflow.model_copy(update={"port": 1})}
    )
    with pytest.raises(ServiceError, match=r"Airflow does not answer at .*; start the stack with"):
        run_dag(closed, "training", {}, result_tasks=["train"])


def test_run_dag_broken_file_of_a_longer_name_is_no_reason_to_stop(
    airflow: tuple[Airflow, int], stack: Settings
) -> None:
    airflow[0].known_after = 1
    airflow[0].import_errors = [{"filename": "dags/old_training.py", "stack_trace": "x"}]
    assert run_dag(stack, "training", {}, result_tasks=["train"])


def test_run_dag_lost_answer_of_the_trigger_starts_one_run(
    airflow: tuple[Airflow, int], stack: Settings
) -> None:
    airflow[0].lose_posts = 1
    assert run_dag(stack, "training", {}, result_tasks=["train"])
    assert len(airflow[0].started) == 2
    assert len(set(airflow[0].started)) == 1


def test_run_dag_paused_dag_names_the_command(
    airflow: tuple[Airflow, int], stack: Settings
) -> None:
    airflow[0].paused = True
    with pytest.raises(ServiceError, match=r"is paused.*`invoke dags unpause training`"):
        run_dag(stack, "training", {}, result_tasks=["train"])
    assert not airflow[0].started


def answer(monkeypatch: pytest.MonkeyPatch, *, yes: bool) -> list[str]:
    """Answer as somebody at the terminal; the questions."""
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return yes

    monkeypatch.setattr(pauses, "ask", ask)
    return asked


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_run_dag_paused_dag_goes_on_if_somebody_at_the_terminal_wants_that(
    when: str,
    airflow: tuple[Airflow, int],
    stack: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = airflow[0]
    known.paused, known.paused_later = when == "before", when == "meanwhile"
    monkeypatch.setattr(scheduler, "HEALTH_S", 0)
    asked = answer(monkeypatch, yes=True)
    run_dag(stack, "training", {}, result_tasks=["train"])
    [question] = asked
    assert question.startswith("The DAG training " + ("is" if when == "before" else "was"))
    assert question.endswith("Unpause it and go on?")
    assert "training is not paused any more." in capsys.readouterr().out
    assert not known.paused
    known.paused = True
    answer(monkeypatch, yes=False)
    with pytest.raises(ServiceError, match=r"is paused.*`invoke dags unpause training`"):
        run_dag(stack, "training", {}, result_tasks=["train"])


def test_run_dag_behind_another_run_says_what_it_waits_for(
    airflow: tuple[Airflow, int],
    stack: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = airflow[0]
    known.states, known.tasks = ["queued"] * 6 + ["success"], [[]]
    known.other_runs = ["manual__0"]
    monkeypatch.setattr(scheduler, "HEALTH_S", 0)
    monkeypatch.setattr(scheduler, "QUIET_S", 0)
    run_dag(stack, "training", {}, result_tasks=["train"])
    said = capsys.readouterr().out
    assert said.count("Nothing has happened for 0 s: run manual__0 of training goes before") == 1


def test_run_dag_merges_in_order_and_leaves_out_skipped_and_empty(
    airflow: tuple[Airflow, int], stack: Settings
) -> None:
    known = airflow[0]
    states = {"train": "success", "gate": "success", "promote": "skipped", "none": "success"}
    known.states, known.tasks = ["success"], [[task(*pair) for pair in states.items()]]
    known.returned = {"train": {"a": 1, "b": 1}, "gate": {"b": 2}, "promote": {"b": 3}}
    found = run_dag(stack, "training", {}, result_tasks=["train", "none", "gate", "promote"])
    assert found == {"a": 1, "b": 2}


def test_run_dag_mapped_tasks_are_told_by_number_and_returned_each(
    airflow: tuple[Airflow, int], stack: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    known = airflow[0]
    known.states = ["success"]
    known.tasks = [[task("map", "success", 2.0, n) for n in range(3)]]
    known.returned = {"map": {"map": "x.tif"}}
    found = run_dag(stack, "training", {}, result_tasks=["map"])
    assert found == {"mapped": [{"map": "x.tif"}] * 3}
    assert "  map 3/3: success after 2.0 s" in capsys.readouterr().out.splitlines()


def test_run_dag_waiting_for_a_person_is_told_once(
    airflow: tuple[Airflow, int], stack: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    known = airflow[0]
    known.states = ["running", "running", "success"]
    waits = [task("approve", "awaiting_input")]
    known.tasks = [waits, waits, [task("train", "success")]]
    assert run_dag(stack, "training", {}, result_tasks=["train"])
    said = "  approve: waits for a person; answer with `invoke dags approve training`"
    assert capsys.readouterr().out.splitlines().count(said) == 1


def test_run_dag_without_a_scheduler_ends_with_a_sentence(
    airflow: tuple[Airflow, int], stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = airflow[0]
    known.states, known.health = ["queued"], "unhealthy"
    monkeypatch.setattr(scheduler, "HEALTH_S", 0.01)
    monkeypatch.setattr(scheduler, "MISSING_S", 0.05)
    with pytest.raises(ServiceError, match=r"scheduler has been unhealthy for more than.*go on"):
        run_dag(stack, "training", {}, result_tasks=["train"])


def test_run_dag_tells_that_the_scheduler_has_no_heartbeat_before_it_ends(
    airflow: tuple[Airflow, int],
    stack: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = airflow[0]
    known.states, known.health = ["queued"], "unhealthy"
    for name, seconds in (("HEALTH_S", 0.01), ("UNTOLD_S", 0.01), ("MISSING_S", 2.5)):
        monkeypatch.setattr(scheduler, name, seconds)
    with pytest.raises(ServiceError, match="scheduler has been unhealthy"):
        run_dag(stack, "training", {}, result_tasks=["train"])
    assert capsys.readouterr().out.count("Airflow's scheduler has had no heartbeat for") == 1


@pytest.mark.parametrize("noticed", [True, False])
def test_run_dag_tells_of_a_task_whose_process_is_gone(
    noticed: bool,
    airflow: tuple[Airflow, int],
    stack: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The stack was killed and started again under it: "running" for ever."""
    known = airflow[0]
    lost = task("ingest", "running") | {"pid": 2**22 - 1, "hostname": socket.gethostname()}
    again = task("ingest", "success")
    known.states = ["running"] * 3 + (["success"] if noticed else ["running"] * 9)
    known.tasks = [[lost], [lost], [lost], [again if noticed else lost]]
    monkeypatch.setattr(scheduler, "HEALTH_S", 0)
    monkeypatch.setattr(scheduler, "LOST_S", 60 if noticed else 1.5)
    if noticed:
        run_dag(stack, "training", {}, result_tasks=["ingest"])
    else:
        with pytest.raises(ServiceError, match=r"has been gone for .* start the run again"):
            run_dag(stack, "training", {}, result_tasks=["ingest"])
    assert capsys.readouterr().out.count("ingest: its process is gone; Airflow notices") == 1


def test_run_dag_that_is_paused_meanwhile_ends_once_no_task_works(
    airflow: tuple[Airflow, int],
    stack: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = airflow[0]
    known.states, known.paused_later = ["running"] * 3, True
    known.tasks = [[task("ingest", "running")], [task("ingest", "success")]]
    monkeypatch.setattr(scheduler, "HEALTH_S", 0)
    with pytest.raises(ServiceError, match=r"was paused.*dags unpause training"):
        run_dag(stack, "training", {}, result_tasks=["train"])
    assert "ingest: success" in capsys.readouterr().out
