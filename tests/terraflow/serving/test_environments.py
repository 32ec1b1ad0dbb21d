"""Environments of models: made by uv, with real packages."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from terraflow.errors import ConfigError, ServiceError
from terraflow.serving import environments
from terraflow.serving.environments import (
    differences,
    find_environments,
    make_environment,
    prune,
)
from terraflow.serving.serve import serve
from terraflow.settings import Settings, load
from terraflow.stack.lifecycle.down import down
from terraflow.stack.model_server import ServedModel, model_server_url
from terraflow.tracking.model_lock import attach, compile_lock, installed
from terraflow.tracking.server_wheel import SERVER, pack, requirements

Captured = pytest.CaptureFixture[str]
OLDER = "1.7.2"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

#: Logs a model with whatever scikit-learn is there.
TRAIN = """
import sys
import mlflow, pandas as pd, sklearn
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("older")
table = pd.DataFrame({"red": [0.1, 0.9, 0.2, 0.8], "nir": [0.9, 0.1, 0.8, 0.2]})
model = LogisticRegression().fit(table, ["forest", "water"] * 2)
with mlflow.start_run():
    logged = mlflow.sklearn.log_model(
        model, name="model", signature=infer_signature(table, model.predict(table)),
        input_example=table.head(2), registered_model_name="older",
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", "skops"],
        metadata={"example_predictions": ["forest", "water"]},
    )
print(logged.model_id)
"""


@pytest.fixture(scope="session")
def older_lock() -> str:
    constraints = [c for c in installed() if not c.lower().startswith("scikit")]
    try:
        return compile_lock([f"scikit-learn=={OLDER}", "skops", *SERVER], constraints)
    except ServiceError as error:
        pytest.skip(f"no index of packages can be reached: {error}")


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    monkeypatch.setenv("TERRAFLOW_SERVING_PORT", "0")
    return load()


def logged_with(folder: Path, **files: str) -> Path:
    """Write what a logged model says of its environment."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_compile_lock_takes_versions_from_here_and_hashes_each(older_lock: str) -> None:
    packages = {p["name"]: p for p in tomllib.loads(older_lock)["packages"]}
    assert packages["scikit-learn"]["version"] == OLDER
    assert packages["numpy"]["version"] == version("numpy")
    assert all(wheel["hashes"] for p in packages.values() for wheel in p.get("wheels", []))
    unwanted = {"apache-airflow", "mlflow", "jupyterlab", "flask"}
    assert not unwanted & packages.keys()


def test_compile_lock_contradiction_is_a_sentence(older_lock: str) -> None:
    with pytest.raises(ServiceError, match=r"No versions are found for numpy==1\.0, .*; see"):
        compile_lock(["numpy==1.0", "numpy==2.0"])


def test_pack_gives_the_same_bytes_and_leaves_the_stack_out(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first, second = pack(tmp_path), pack(tmp_path / "a")
    assert first.read_bytes() == second.read_bytes()
    listed = zipfile.ZipFile(first).namelist()
    assert "terraflow/serving/app/server.py" in listed
    assert "terraflow/serving/app/page.html" in listed
    assert not [name for name in listed if name.startswith("terraflow/stack")]
    assert first.stat().st_size < 2**20


def test_requirements_of_maps_are_the_platforms_without_the_stacks() -> None:
    found = requirements(maps=True)
    assert {"rasterio", "odc-stac", *SERVER} <= set(found)
    assert not {"apache-airflow", "mlflow", "jupyterlab", "pytest", "psycopg2-binary"} & set(found)


def test_differences_go_by_the_lock(tmp_path: Path, older_lock: str) -> None:
    model = logged_with(tmp_path / "m", pylock__toml=older_lock)
    assert differences(model) == [f"scikit-learn {OLDER}, here {version('scikit-learn')}"]


def test_differences_without_a_lock_go_by_the_requirements(tmp_path: Path) -> None:
    text = f"""# made by hand
numpy=={version("numpy")}
scikit-learn==1.0 # old
no-such-package==1
colorama==0.1; sys_platform == "win32"
pandas>=1
--index-url https://example.org
"""
    found = differences(logged_with(tmp_path / "m", requirements__txt=text))
    assert found == [
        f"scikit-learn 1.0, here {version('scikit-learn')}",
        "no-such-package 1, here not there",
    ]
    assert differences(logged_with(tmp_path / "n")) == []


def test_differences_name_another_python(tmp_path: Path) -> None:
    assert differences(logged_with(tmp_path / "m", python_env__yaml="python: 3.10.4\n")) == [
        f"Python 3.10, here {HERE}"
    ]
    same = logged_with(tmp_path / "n", python_env__yaml=f"python: {HERE}.1\ndependencies: []\n")
    assert differences(same) == []


@pytest.mark.parametrize(
    ("python", "expected"),
    [
        ("3.99.1", r"logged with Python 3\.99, which is not here; install it, or serve"),
        ("3.8.1", r"logged with Python 3\.8, and the model server needs 3\.11 or newer; serve it"),
    ],
)
def test_make_environment_python_that_is_not_here_is_named(
    python: str, expected: str, local: Settings, tmp_path: Path, older_lock: str
) -> None:
    model = logged_with(
        tmp_path / "m", python_env__yaml=f"python: {python}\n", pylock__toml=older_lock
    )
    with pytest.raises(ConfigError, match=expected):
        make_environment(local, model)
    assert [p.name for p in (local.var / "envs").glob("*") if p.is_dir()] == []


def test_make_environment_that_can_not_be_made_leaves_nothing(
    local: Settings, tmp_path: Path
) -> None:
    lock = """lock-version = "1.0"
created-by = "test"
[[packages]]
name = "gone"
version = "1"
wheels = [{ url = "http://127.0.0.1:9/gone-1-py3-none-any.whl", hashes = { sha256 = "00" } }]
"""
    with pytest.raises(ServiceError, match=r"The model's environment can't be made: .*; see that"):
        make_environment(local, logged_with(tmp_path / "m", pylock__toml=lock))
    assert find_environments(local) == []
    assert not [p for p in (local.var / "envs").iterdir() if p.is_dir()]


def test_make_environment_twice_at_once_makes_one(
    local: Settings, tmp_path: Path, older_lock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = logged_with(tmp_path / "m", pylock__toml=older_lock)
    fill, filled, found = environments._fill, [], []
    monkeypatch.setattr(environments, "_fill", lambda *a: (filled.append(a), fill(*a)))
    threads = [
        threading.Thread(target=lambda: found.append(make_environment(local, model)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert len(found) == 2
    assert len(set(found)) == len(filled) == 1
    [made] = find_environments(local)
    assert (made.folder / "bin" / "python") == found[0]
    assert not made.in_use
    began = time.monotonic()
    monkeypatch.setattr(environments, "run_uv", None)
    assert make_environment(local, model) == found[0]  # once made, without uv
    assert time.monotonic() - began < 5


def test_prune_keeps_the_last_used(local: Settings) -> None:
    for age, name in enumerate(["new", "newer", "old", "oldest"]):
        folder = local.var / "envs" / name
        folder.mkdir(parents=True)
        (folder / "used").touch()
        os.utime(folder / "used", (1000 - age, 1000 - age))
    assert [e.id for e in prune(local, keep={local.var / "envs" / "oldest"})] == []
    assert [e.id for e in prune(local)] == ["oldest"]
    assert [e.id for e in prune(local, kept=1)] == ["newer", "old"]
    assert [e.id for e in find_environments(local)] == ["new"]


@pytest.fixture
def tracked(
    tracked_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Serve a model; give the address."""
    monkeypatch.setenv("TERRAFLOW_SERVING_PORT", "0")
    monkeypatch.setattr("terraflow.serving.serve.stop_on_sigterm", lambda: None)
    settings = load()
    mlflow.set_tracking_uri(settings.mlflow_url)

    def start(uri: str, **options: Any) -> str:
        serve(settings, run_id="", model_uri=uri, detach=True, **options)
        return model_server_url(settings)

    yield start
    down(settings)


def ask(url: str) -> list[str]:
    split = {"columns": ["red", "nir"], "data": [[0.1, 0.9], [0.9, 0.1]]}
    answer = httpx.post(
        f"{url}/invocations", json={"dataframe_split": split}, timeout=60, trust_env=False
    )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["predictions"])


@pytest.mark.slow
def test_model_of_an_older_scikit_learn_is_served_by_it(
    tracked: Callable[..., str], older_lock: str, tmp_path: Path, capsys: Captured
) -> None:
    settings = load()
    older = make_environment(settings, logged_with(tmp_path / "m", pylock__toml=older_lock))
    words = [str(older), "-c", TRAIN, settings.mlflow_url]
    trained = subprocess.run(
        words, capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock" / "pylock.toml").write_text(older_lock)
    pack(tmp_path / "lock")
    model_id = trained.stdout.split()[-1]
    mlflow.MlflowClient().log_model_artifacts(model_id, str(tmp_path / "lock"))
    url = tracked("models:/older/1")
    assert ask(url) == ["forest", "water"]
    told = capsys.readouterr().out
    here = version("scikit-learn")
    assert f"another environment than the stack: scikit-learn {OLDER}, here {here}\n" in told
    served = ServedModel.read(settings)
    assert served
    assert served.python == str(older)
    code = "import sklearn; print(sklearn.__version__)"
    assert subprocess.check_output([served.python, "-c", code], text=True).strip() == OLDER
    [environment] = find_environments(settings)
    assert environment.in_use
    assert prune(settings, kept=0) == []


def log_here(name: str) -> str:
    """Log a model of this environment as `train` does; give its id."""
    table = pd.DataFrame({"red": [0.1, 0.9, 0.2, 0.8], "nir": [0.9, 0.1, 0.8, 0.2]})
    model = LogisticRegression().fit(table, ["forest", "water"] * 2)
    mlflow.set_experiment("here")
    needs = [f"scikit-learn=={version('scikit-learn')}", f"skops=={version('skops')}"]
    logged = mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(table, model.predict(table)),
        input_example=table.head(2),
        pip_requirements=needs,
        registered_model_name=name,
    )
    attach(logged.model_id, needs)
    return str(logged.model_id)


def test_model_of_this_environment_is_served_here_unless_asked(
    tracked: Callable[..., str], older_lock: str, capsys: Captured
) -> None:
    settings = load()
    model_id = log_here("isolated")
    files = [f.path for f in mlflow.artifacts.list_artifacts(f"models:/{model_id}")]
    assert {"pylock.toml", "pylock.map.toml"} <= set(files)
    assert ask(tracked("models:/isolated/1")) == ["forest", "water"]
    assert find_environments(settings) == []
    down(settings)
    url = tracked("models:/isolated/1", isolated=True)
    assert ask(url) == ["forest", "water"]
    [environment] = find_environments(settings)
    names = {
        p.name.partition("-")[0].lower() for p in environment.folder.glob("lib/*/*/*.dist-info")
    }
    assert not {"apache_airflow", "jupyterlab", "mlflow", "flask"} & names
    assert f"Made it: {environment.packages} packages in " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("isolated", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_plain_server_is_mlflows_own(
    isolated: bool, tracked: Callable[..., str], older_lock: str, capsys: Captured
) -> None:
    settings = load()
    log_here("plain")
    url = tracked("models:/plain/1", plain=True, isolated=isolated)
    assert ask(url) == ["forest", "water"]
    assert (
        f"Serving models:/plain/1 at {url}; ask it with\n\ncurl -s {url}" in capsys.readouterr().out
    )
    assert httpx.get(f"{url}/metrics", trust_env=False).status_code == 404
    assert (settings.var / "envs" / ".mlflow").exists() == isolated
    assert down(settings)


@pytest.mark.slow
def test_mlflow_models_serve_typed_by_hand_works(
    tracked_settings: Settings, free_tcp_port: int, older_lock: str
) -> None:
    mlflow.set_tracking_uri(tracked_settings.mlflow_url)
    log_here("by_hand")
    binaries = Path(sys.executable).parent
    variables = {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": tracked_settings.mlflow_url,
    }
    words = [str(binaries / "mlflow"), "models", "serve", "-m", "models:/by_hand/1"]
    words += ["--port", str(free_tcp_port), "--env-manager", "local"]
    process = subprocess.Popen(words, env=os.environ | variables, start_new_session=True)
    url = f"http://127.0.0.1:{free_tcp_port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                assert httpx.get(f"{url}/ping", trust_env=False).status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.5)
        assert ask(url) == ["forest", "water"]
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"follow": True}, "--follow"), ({"maps": True}, "--maps")],
)
def test_plain_with_what_mlflow_can_not_do_is_refused(
    options: dict[str, bool], named: str, local: Settings
) -> None:
    with pytest.raises(ConfigError, match=f"which --plain starts, knows nothing of {named}; leave"):
        serve(local, run_id="", model_uri="models:/m@a", plain=True, detach=True, **options)  # type: ignore[arg-type]
