from __future__ import annotations

import socket
from pathlib import Path

import mlflow
import pytest

from odd_shell import NONSENSE
from terraflow.checkout.git import git
from terraflow.settings import Settings
from terraflow.tracking import abandoned
from terraflow.tracking import runs as tracking

NAMES = ["Grass & shrub", "water (50 %)", "a/b", "a//b", "a/", "a:b", "a\\b", "Wälder", "plain_1.5"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("f1_Grass & shrub", "f1_Grass _ shrub"),
        ("a//b/", "a__b_"),
        ("Wälder-1.5 m", "Wälder-1.5 m"),
    ],
)
def test_metric_name_keeps_letters_and_replaces_the_rest(name: str, expected: str) -> None:
    assert tracking.metric_name(name) == expected


def test_metric_name_is_what_mlflow_takes(tracked_settings: Settings) -> None:
    metrics = {tracking.metric_name(f"f1_{name}"): 0.5 for name in NAMES}
    with tracking.start_run(tracked_settings, "metric-names", name="names", tags={}) as run:
        mlflow.log_metrics(metrics)
    assert mlflow.get_run(run.info.run_id).data.metrics == metrics


def test_start_run_marks_its_experiment_as_one_of_models(tracked_settings: Settings) -> None:
    for _ in range(2):
        with tracking.start_run(tracked_settings, "kind", name="kind", tags={}):
            pass
    experiment = mlflow.get_experiment_by_name("kind")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_start_run_goes_to_the_stacks_server_whatever_the_shell_names(
    tracked_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in NONSENSE["MLflow"].items():
        if name != "MLFLOW_HTTP_REQUEST_MAX_RETRIES":  # a process of the stack has none of them
            monkeypatch.setenv(name, value)
    with tracking.start_run(tracked_settings, "own", name="own", tags={}) as run:
        pass
    assert run.info.run_id != NONSENSE["MLflow"]["MLFLOW_RUN_ID"]
    assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == tracked_settings.mlflow_url
    assert mlflow.get_run(run.info.run_id).data.tags["mlflow.runName"] == "own"


def test_end_abandoned_runs_are_found_on_every_page(
    tracked_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abandoned, "PAGE", 1)
    client = mlflow.MlflowClient(tracked_settings.mlflow_url)
    gone = {abandoned.HOST: socket.gethostname(), abandoned.PID: str(2**22 - 1)}
    left = set()
    for number in range(2):
        experiment = client.create_experiment(f"abandoned-{number}")
        runs = [client.create_run(experiment, tags=gone) for _ in range(2)]
        left |= {run.info.run_id for run in runs}
    assert left <= set(abandoned.end_abandoned_runs(tracked_settings))
    assert {client.get_run(run).info.status for run in left} == {"KILLED"}


def test_run_that_ends_at_that_moment_is_left(
    tracked_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = mlflow.MlflowClient(tracked_settings.mlflow_url)
    gone = {abandoned.HOST: socket.gethostname(), abandoned.PID: str(2**22 - 1)}
    run = client.create_run(client.create_experiment("ends"), tags=gone).info.run_id

    def end_it(_pid: int, _started: float) -> bool:
        client.set_terminated(run, "FINISHED")
        return False

    monkeypatch.setattr(abandoned, "is_same", end_it)
    assert run not in abandoned.end_abandoned_runs(tracked_settings)
    assert client.get_run(run).info.status == "FINISHED"


def make_project(folder: Path) -> str:
    """A repository with a project and a commit, whose id is returned."""
    folder.mkdir()
    for name in ("Procfile", "pyproject.toml"):
        (folder / name).touch()
    return commit(folder)


def commit(folder: Path) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@b.org")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, *who, "commit", "--quiet", "--no-gpg-sign", "-m", "All")
    return git(folder, "rev-parse", "HEAD").strip()


def test_provenance_names_the_projects_own_commit_whatever_the_shell_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_project(tmp_path / "own")
    make_project(tmp_path / "other")
    (tmp_path / "other" / "more").touch()
    other = commit(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    monkeypatch.setenv("TERRAFLOW_ROOT", str(tmp_path / "own"))
    assert tracking.provenance()["code_commit"] == own != other


def test_provenance_names_no_commit_of_a_repository_around_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of files in the home folder."""
    make_project(tmp_path / "home")
    project = tmp_path / "home" / "project"
    project.mkdir()
    for name in ("Procfile", "pyproject.toml"):
        (project / name).touch()
    monkeypatch.setenv("TERRAFLOW_ROOT", str(project))
    assert "code_commit" not in tracking.provenance()
    commit(tmp_path / "home")  # now it is a part of that repository
    assert "code_commit" in tracking.provenance()
