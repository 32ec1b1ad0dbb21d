from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from odd_shell import KEPT, NONSENSE, PRINT
from terraflow.checkout.variables import FAMILIES, LOOPBACK, is_secret, shielded
from terraflow.sections import S3
from terraflow.settings import Settings
from terraflow.stack.environment import environment

ROOT = Path(__file__).resolve().parents[3]
PLATFORM = ROOT / "src"
FOREIGN = {family: odd for family, odd in NONSENSE.items() if family != "proxies"}
FAMILY = pytest.mark.parametrize("family", FOREIGN)

#: A project whose only task prints its variables, where the modules come from, and the warnings.
TASKS = """
from terraflow.tasks import namespace
from terraflow.tasks.task import task

@task()
def told(c):
    import json, os, sys
    import terraflow
    print(json.dumps({"path": sys.path, "optimize": sys.flags.optimize, "warn": sys.warnoptions,
                      "here": terraflow.__file__, **os.environ}))

namespace.add_task(told)
"""


def project(folder: Path) -> Path:
    """A folder that is a project."""
    folder.mkdir(exist_ok=True)
    (folder / "Procfile").write_text("")
    (folder / "pyproject.toml").write_text('[project]\nname = "odd"\n')
    (folder / "tasks.py").write_text(TASKS)
    return folder


def run(command: list[str], variables: dict[str, str], cwd: Path) -> dict[str, Any]:
    """Run a program that prints its variables."""
    # the first entry of the path is a test's business: without it the platform would be another
    path = os.pathsep.join([str(PLATFORM), *filter(None, [variables.get("PYTHONPATH")])])
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **variables, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def as_task(variables: dict[str, str], folder: Path) -> dict[str, Any]:
    folder = project(folder / "project")
    return run([sys.executable, "-m", "invoke", "told"], variables, folder)


def as_installer(variables: dict[str, str], folder: Path) -> dict[str, Any]:
    words = ["-m", "terraflow.checkout.variables", sys.executable, "-c", PRINT]
    return run([sys.executable, *words], variables, folder)


def as_service(variables: dict[str, str], folder: Path) -> dict[str, Any]:
    code = (
        "import json; from terraflow.settings import load; "
        "from terraflow.stack.environment import environment; "
        "s = load().model_copy(update={'store': 'minio'}); print(json.dumps(environment(s)))"
    )
    return run([sys.executable, "-c", code], variables, ROOT)


def strange(family: str, told: dict[str, Any]) -> dict[str, str]:
    """What a process has of a family's nonsense."""
    return {name: told[name] for name, odd in FOREIGN[family].items() if told.get(name) == odd}


@FAMILY
@pytest.mark.parametrize("process", [as_task, as_installer, as_service])
def test_process_gets_nothing_of_a_familys_nonsense(
    process: Any, family: str, tmp_path: Path
) -> None:
    told = process({**FOREIGN[family], **KEPT}, tmp_path)
    assert strange(family, told) == {}
    assert "/nowhere" not in json.dumps(told)
    assert {name: told.get(name) for name in KEPT} == KEPT
    assert set(LOOPBACK) <= set(told["NO_PROXY"].split(","))
    assert told["no_proxy"] == told["NO_PROXY"]


def test_every_family_has_an_example() -> None:
    assert set(FAMILIES) - {"PostgreSQL"} == set(FOREIGN)


def test_task_begins_anew_where_python_itself_has_read_nonsense(tmp_path: Path) -> None:
    told = as_task(FOREIGN["Python"], tmp_path)
    assert "/nowhere/packages" not in told["path"]
    assert (told["optimize"], told["warn"]) == (0, [])
    assert told["here"].startswith(str(PLATFORM))


def test_pythonpath_keeps_the_checkouts_own_folders(tmp_path: Path) -> None:
    own = f"/nowhere{os.pathsep}{tmp_path}/src{os.pathsep}{os.pathsep}{PLATFORM}"
    variables = {"PYTHONPATH": own}
    kept = f"{tmp_path}/src{os.pathsep}{PLATFORM}"
    assert shielded(variables, tmp_path)["PYTHONPATH"] == kept
    assert shielded(variables, None)["PYTHONPATH"] == str(PLATFORM)
    assert "PYTHONPATH" not in shielded({"PYTHONPATH": "/nowhere"}, tmp_path)


def test_data_of_the_environment_that_runs_this_are_kept() -> None:
    """As pixi and conda set them."""
    own = {"PROJ_DATA": f"{sys.prefix}/share/proj", "GDAL_DATA": f"{sys.prefix}/share/gdal"}
    assert own.items() <= shielded(own | {"PROJ_LIB": "/opt/conda/share/proj"}, None).items()
    assert "PROJ_LIB" not in shielded({"PROJ_LIB": "/opt/conda/share/proj"}, None)
    assert "PROJ_DATA" not in shielded({"PROJ_DATA": "\0"}, None)


@pytest.mark.parametrize("told", ["*", "a.org, *", "*,b.org"])
def test_no_proxy_for_all_stays_so(told: str) -> None:
    """As httpx and requests read it, * counts alone only."""
    assert shielded({"NO_PROXY": told}, None)["no_proxy"] == "*"


@pytest.mark.parametrize(
    "told", [{}, {"no_proxy": "a.org"}, {"NO_PROXY": "a.org"}, {"NO_PROXY": " a.org ,"}]
)
def test_no_proxy_is_extended_in_both_spellings(told: dict[str, str]) -> None:
    wanted = ",".join([*(["a.org"] if told else []), *LOOPBACK])
    assert {shielded(told, None)[name] for name in ("no_proxy", "NO_PROXY")} == {wanted}
    both = shielded({"no_proxy": "a.org", "NO_PROXY": "b.org,localhost"}, None)["no_proxy"]
    assert both == "a.org,b.org,localhost,127.0.0.1,::1"


def test_shielding_twice_is_shielding_once() -> None:
    """Else a task would begin anew for ever."""
    odd = {name: value for family in NONSENSE.values() for name, value in family.items()}
    once = shielded(odd | KEPT, ROOT)
    assert shielded(once, ROOT) == once


def test_s3_keeps_credentials_and_no_address() -> None:
    kept = shielded(NONSENSE["AWS"], None, s3=True)
    assert {name for name in kept if name.startswith("AWS_")} == {
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    }


@pytest.mark.parametrize("how", ["shell", "file", "command line", "running"])
def test_task_keeps_credentials_where_anything_names_an_s3_store(how: str, tmp_path: Path) -> None:
    folder, variables = project(tmp_path / "project"), {"AWS_PROFILE": "mine"}
    for name in ("TERRAFLOW_CONFIG_DIR", "TERRAFLOW_VAR"):
        variables[name] = str(folder / name)
        (folder / name / "run").mkdir(parents=True)
    command = [sys.executable, "-m", "invoke", "told"]
    assert "AWS_PROFILE" not in run(command, variables, folder)
    if how == "shell":
        variables["TERRAFLOW_STORE"] = "s3"
    elif how == "file":
        (folder / "TERRAFLOW_CONFIG_DIR" / "terraflow.toml").write_text('store = "s3"\n')
    elif how == "running":
        saved = Settings(store="s3").model_dump_json(indent=1)
        (folder / "TERRAFLOW_VAR" / "run" / "settings.json").write_text(saved)
    else:
        set_up = 'def told(c, set_=""):'
        tasks = (folder / "tasks.py").read_text().replace("def told(c):", set_up)
        (folder / "tasks.py").write_text(tasks)
        command += ["--set", "store=s3"]
    assert run(command, variables, folder)["AWS_PROFILE"] == "mine"


def test_environment_of_amazons_s3_ignores_addresses_in_the_users_files(
    settings: Settings,
) -> None:
    """botocore reads them from ~/.aws/config, too."""
    amazon = settings.model_copy(update={"store": "s3"})
    assert environment(amazon)["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] == "true"
    other = amazon.model_copy(update={"s3": S3(endpoint="http://127.0.0.1:7")})
    assert environment(other)["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:7"
    assert "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" not in environment(other)


def test_secrets_are_told_from_where_they_lie() -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "MLFLOW_TRACKING_TOKEN"}
    assert all(map(is_secret, secrets))
    assert not any(map(is_secret, ("AWS_SHARED_CREDENTIALS_FILE", "AWS_REGION", "PATH")))


@pytest.mark.parametrize("resolved", ["1", "shell"])
def test_task_acts_on_the_project_one_stands_in_not_on_that_of_the_shell(
    resolved: str, tmp_path: Path
) -> None:
    """As in a terminal of JupyterLab: `invoke down` would stop the other stack."""
    other = project(tmp_path / "other")
    variables = {
        "TERRAFLOW_ROOT": str(other),
        "TERRAFLOW_VAR": str(other / "var"),
        "TERRAFLOW_RESOLVED": resolved,
        "TERRAFLOW_STARTED_BY": "make",
    }
    told = as_task(variables, tmp_path)
    assert {name for name in told if name.startswith("TERRAFLOW_")} == {"TERRAFLOW_STARTED_BY"}
    told = run([sys.executable, "-m", "invoke", "told"], variables, other)
    assert told["TERRAFLOW_VAR"] == str(other / "var")
    del variables["TERRAFLOW_RESOLVED"]  # the user's own word counts
    assert as_task(variables, tmp_path)["TERRAFLOW_VAR"] == str(other / "var")
