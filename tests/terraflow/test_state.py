from __future__ import annotations

from pathlib import Path

import pytest

from services import supervised
from terraflow.state import ServiceState, manager_pid, read_all, read_state


def test_read_state_of_a_service_that_was_never_started_is_nothing(tmp_path: Path) -> None:
    assert read_state(tmp_path, "mlflow") is None
    assert read_all(tmp_path) == {}
    assert manager_pid(tmp_path) is None


def test_read_state_gives_what_the_supervisor_wrote(tmp_path: Path) -> None:
    with supervised(tmp_path, "mlflow") as process:
        state = read_state(tmp_path, "mlflow")
        assert state
        assert (state.service, state.phase, state.pid) == ("mlflow", "running", process.pid)
        assert (state.supervisor_pid, state.restarts) == (process.pid, 2)
        assert (tmp_path / "mlflow.json").stat().st_mode & 0o777 == 0o600


def test_read_state_without_a_supervisor_is_stopped(tmp_path: Path) -> None:
    with supervised(tmp_path, "mlflow") as process:
        process.kill()
        process.wait()
        state = read_state(tmp_path, "mlflow")
        assert state
        assert (state.phase, state.pid, state.reason) == ("stopped", None, "its supervisor is gone")
        assert manager_pid(tmp_path) is None


def test_read_state_of_a_service_that_has_ended_is_restarting(tmp_path: Path) -> None:
    """Its supervisor may not be able to write so, as on a full disk."""
    with supervised(tmp_path, "mlflow") as process:
        state = ServiceState("mlflow", "running", 2**22 - 1, process.pid, process.pid)
        state.write(tmp_path)
        told = read_state(tmp_path, "mlflow")
        assert told
        assert (told.phase, told.pid) == ("restarting", None)
        assert told.reason.startswith("its process 4194303 has ended")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"service": "mlflow"}', '{"later": 1}'])
def test_read_state_damaged_file_is_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "mlflow.json").write_text(content)
    assert read_state(tmp_path, "mlflow") is None


def test_read_all_lists_services_by_their_locks(tmp_path: Path) -> None:
    with supervised(tmp_path, "mlflow"), supervised(tmp_path, "jupyter"):
        assert list(read_all(tmp_path)) == ["jupyter", "mlflow"]


def test_manager_pid_of_the_stack_leaves_the_model_server_out(tmp_path: Path) -> None:
    with supervised(tmp_path, "model-server") as server:
        assert manager_pid(tmp_path) is None
        assert manager_pid(tmp_path, "model-server") == server.pid
        with supervised(tmp_path, "mlflow") as process:
            assert manager_pid(tmp_path) == process.pid


def test_manager_pid_that_is_gone_does_not_count(tmp_path: Path) -> None:
    with supervised(tmp_path, "mlflow"):
        state = read_state(tmp_path, "mlflow")
        assert state
        ServiceState("mlflow", "running", None, state.supervisor_pid, 2**22 - 1).write(tmp_path)
        assert manager_pid(tmp_path) is None
