"""MLflow's real server behind its login, as the stack starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import mlflow
import pytest
from mlflow.exceptions import MlflowException

from mlflow_server import MlflowServer
from terraflow.settings import Settings
from terraflow.tracking import runs

API = "/api/2.0/mlflow"


@pytest.fixture
def client(mlflow_server: MlflowServer) -> httpx.Client:
    headers = {"Authorization": f"Bearer {mlflow_server.token}"}
    base = f"http://127.0.0.1:{mlflow_server.port}"
    return httpx.Client(base_url=base, headers=headers, trust_env=False, timeout=30)


@pytest.fixture
def stranger(client: httpx.Client) -> httpx.Client:
    return httpx.Client(base_url=client.base_url, trust_env=False, timeout=30)


def test_stranger_gets_nothing_but_health(stranger: httpx.Client) -> None:
    assert stranger.get("/health").text == "OK"
    for path in ("/", f"{API}/experiments/get?experiment_id=0", "/version", "/graphql", "/x"):
        assert stranger.get(path).status_code == 401
    assert stranger.post(f"{API}/experiments/create", json={"name": "x"}).status_code == 401
    assert stranger.put("/api/2.0/mlflow-artifacts/artifacts/x", content=b"x").status_code == 401


def test_browser_gets_in_by_the_link_which_is_in_no_log(
    stranger: httpx.Client, mlflow_server: MlflowServer
) -> None:
    answer = stranger.get(f"/?token={mlflow_server.token}", follow_redirects=True)
    assert answer.status_code == 200
    assert "<html" in answer.text.lower()
    assert "token=" not in str(answer.url)
    assert stranger.get(f"{API}/experiments/get?experiment_id=0").status_code == 200
    log = (mlflow_server.folder / "log").read_text()
    assert '"GET / HTTP' in log
    assert mlflow_server.token not in log


def test_connect_brings_the_token_along(
    tracked_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    runs.connect(tracked_settings)
    assert mlflow.get_experiment("0") is not None


def test_client_without_the_token_is_told_of_it(
    tracked_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    mlflow.set_tracking_uri(tracked_settings.mlflow_url)
    with pytest.raises(MlflowException, match="set MLFLOW_TRACKING_TOKEN"):
        mlflow.MlflowClient().search_experiments()


def test_server_without_a_token_does_not_start(tmp_path: Path) -> None:
    variables = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_TOKEN"}
    command = [sys.executable, "-m", "terraflow.process.mlflow_server", "server", "--port", "0"]
    words = ["--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/db"]
    done = subprocess.run(
        [*command, *words, "--artifacts-destination", str(tmp_path / "a")],
        env=variables | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "MLFLOW_TRACKING_TOKEN is not set" in done.stderr


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Give a folder with a secret."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "secrets.json").write_text("hidden")
    return folder


@pytest.mark.parametrize(
    "form", ["file://{0}", "{0}", "file:{0}", "file://localhost{0}", "{1}/../elsewhere", "s3://x/y"]
)
def test_experiment_elsewhere_is_refused(
    form: str, secret: Path, client: httpx.Client, mlflow_server: MlflowServer
) -> None:
    location = form.format(secret, secret.parent)
    asked = {"name": f"elsewhere {form}", "artifact_location": location}
    for api in (API, "/ajax-api/2.0/mlflow"):
        answer = client.post(f"{api}/experiments/create", json=asked)
        assert answer.status_code == 400
        assert "not in the store of this server" in answer.json()["message"]


def test_experiment_behind_a_link_in_the_store_is_refused(
    secret: Path, client: httpx.Client, mlflow_server: MlflowServer
) -> None:
    store = mlflow_server.folder / "artifacts"
    store.mkdir(exist_ok=True)
    (store / "link").symlink_to(secret)
    asked = {"name": "link", "artifact_location": f"file://{store}/link"}
    assert client.post(f"{API}/experiments/create", json=asked).status_code == 400
    url = "/api/2.0/mlflow-artifacts/artifacts/link/secrets.json"
    assert "hidden" not in client.get(url).text
    assert client.put(url, content=b"x").status_code >= 400
    (store / "file").symlink_to(secret / "secrets.json")
    assert "hidden" not in client.get("/api/2.0/mlflow-artifacts/artifacts/file").text
    assert (secret / "secrets.json").read_text() == "hidden"


def test_run_whose_artifacts_lie_elsewhere_is_not_opened(
    secret: Path, client: httpx.Client, mlflow_server: MlflowServer
) -> None:
    """As one of before there was this rule may be in the database."""
    asked = client.post(f"{API}/runs/create", json={"experiment_id": "0", "start_time": 1})
    run = asked.json()["run"]["info"]["run_id"]
    _rewrite(mlflow_server, "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", secret, run)
    for path in ("/get-artifact", f"{API}/artifacts/list"):
        query = {"run_uuid": run, "run_id": run, "path": "secrets.json"}
        answer = client.get(path, params=query)
        assert answer.status_code == 400
        assert "hidden" not in answer.text
    query = {"run_uuid": run, "path": "new.txt"}
    answer = client.post("/ajax-api/2.0/mlflow/upload-artifact", params=query, content=b"x")
    assert answer.status_code == 400
    assert [path.name for path in secret.iterdir()] == ["secrets.json"]


def test_version_whose_source_lies_elsewhere_is_refused(secret: Path, client: httpx.Client) -> None:
    client.post(f"{API}/registered-models/create", json={"name": "elsewhere"})
    asked = client.post(f"{API}/runs/create", json={"experiment_id": "0", "start_time": 1})
    run = asked.json()["run"]["info"]["run_id"]
    for source in (f"file://{secret}", str(secret), "s3://other/x", "http://127.0.0.1:1/x"):
        body = {"name": "elsewhere", "source": source, "run_id": run}
        assert client.post(f"{API}/model-versions/create", json=body).status_code == 400
        body = {"name": "elsewhere", "source": source}
        assert client.post(f"{API}/model-versions/create", json=body).status_code == 400


def test_what_is_in_the_store_is_written_and_read(tracked_settings: Settings) -> None:
    with runs.start_run(tracked_settings, "guarded", name="run", tags={}) as run:
        mlflow.log_text("kept", "folder/note.txt")
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/folder/note.txt") == "kept"


@pytest.mark.parametrize("origin", ["http://127.0.0.1:1234", "http://localhost:1234", "null"])
def test_page_of_another_server_is_not_granted(origin: str, client: httpx.Client) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = client.request(method, f"{API}/experiments/search", headers=headers)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def _rewrite(server: MlflowServer, statement: str, *values: object) -> None:
    import sqlite3

    with sqlite3.connect(server.folder / "mlflow.db") as database:
        database.execute(statement, [str(value) for value in values])
    database.close()
