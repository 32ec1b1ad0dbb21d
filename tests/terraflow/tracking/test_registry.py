from __future__ import annotations

import threading

import mlflow
import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from terraflow.errors import StorageError
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.tracking import registry
from terraflow.tracking import runs as tracking


@pytest.fixture
def name(tracked_settings: Settings, request: pytest.FixtureRequest) -> str:
    """Registered model with two versions, of an empty run."""
    mlflow.set_tracking_uri(tracked_settings.mlflow_url)
    client = mlflow.MlflowClient()
    found = str(request.node.name)
    client.create_registered_model(found)
    with mlflow.start_run() as run:
        source = f"{run.info.artifact_uri}/model"
    for _ in range(2):
        client.create_model_version(found, source, run.info.run_id)
    return found


def test_find_by_alias_follows_the_alias(name: str) -> None:
    assert registry.find_by_alias(name, "champion") is None
    for version in ("2", "1"):
        registry.set_alias(mlflow.MlflowClient().get_model_version(name, version), "champion")
        found = registry.find_by_alias(name, "champion")
        assert found is not None
        assert str(found.version) == version


def test_find_by_alias_of_a_deleted_version_or_unknown_model_is_none(name: str) -> None:
    client = mlflow.MlflowClient()
    registry.set_alias(client.get_model_version(name, "1"), "champion")
    client.delete_model_version(name, "1")
    assert registry.find_by_alias(name, "champion") is None
    assert registry.find_by_alias(f"{name}-unknown", "champion") is None


def test_find_by_run_gives_the_latest_version_of_a_logged_model(name: str) -> None:
    with mlflow.start_run() as run:
        classifier = DummyClassifier().fit(np.zeros((2, 1)), ["a", "b"])
        info = mlflow.sklearn.log_model(classifier, name="model", pip_requirements=[])
        versions = [tracking.register(info.model_uri, name, "challenger") for _ in range(2)]
    found = registry.find_by_run(run.info.run_id)
    assert found is not None
    assert (found.name, str(found.version)) == (name, versions[1])
    assert registry.find_by_run("f" * 32) is None


def test_write_tags_overwrites_and_keeps_others(name: str) -> None:
    version = mlflow.MlflowClient().get_model_version(name, "1")
    registry.write_tags(version, {"a": "1", "b": "2"})
    registry.write_tags(version, {"b": "3"})
    assert mlflow.MlflowClient().get_model_version(name, "1").tags == {"a": "1", "b": "3"}


def test_exclusive_lets_one_in_at_a_time(tracked_settings: Settings) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            with registry.exclusive(tracked_settings):
                inside += 1
                most = max(most, inside)
                threading.Event().wait(0.01)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_exclusive_failing_registry_is_told_and_the_lock_is_free_again(
    tracked_settings: Settings,
) -> None:
    with (
        pytest.raises(StorageError, match=r"registry at http.* failed: .*not found.*invoke logs"),
        registry.exclusive(tracked_settings),
    ):
        mlflow.MlflowClient().get_model_version("nope", "1")
    assert Lock(tracked_settings.run_dir / "registry.lock").acquire()
