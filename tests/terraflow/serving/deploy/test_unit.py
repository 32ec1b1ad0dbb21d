"""The systemd unit of a deployment, as systemd itself reads it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import wait_for
from terraflow.serving.deploy.scripts import START, STOP
from terraflow.serving.deploy.unit import start_script, unit_name, unit_text

COMMANDS = [
    ["serve", "--model", "models:/land-cover@champion", "--follow"],
    ["serve", "--model", "../../models/0123", "--trust"],
    ["serve", "--model", 's3://bucket/100% "of $it" \\ here'],
    ["up"],
]


def release(folder: Path, script: str) -> Path:
    """A release whose invoke prints its words, a line each, and a port."""
    program = folder / "current" / ".venv" / "bin" / "invoke"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$TERRAFLOW_SERVING_PORT"\n')
    (folder / "current" / ".libraries").touch()
    start = folder / "current" / ".start"
    start.write_text(script)
    for path in (program, start):
        path.chmod(0o755)
    return start


@pytest.mark.parametrize("name", ["land_cover", 'la"nd $co %ver'])
def test_unit_is_one_that_systemd_takes(name: str, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not here")
    root = tmp_path / name
    release(root, "#!/bin/sh\n")
    unit = tmp_path / unit_name("land_cover")
    unit.write_text(unit_text(str(root), "land_cover"))
    words = ["systemd-analyze", "verify", "--user", "--man=no", str(unit)]
    own = {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(words, env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr


@pytest.mark.parametrize("script", [START, STOP])
def test_scripts_are_plain_sh(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_release_starts_with_its_own_words_and_settings(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TERRAFLOW_SERVING_PORT", raising=False)
    start = release(tmp_path, start_script(command, {"TERRAFLOW_SERVING_PORT": "5123"}))
    said = subprocess.check_output([start, "--detach"], text=True)
    assert said.splitlines() == [*command, "--detach", "5123"]
    monkeypatch.setenv("TERRAFLOW_SERVING_PORT", "0")  # as a trial sets it
    assert subprocess.check_output([start], text=True).splitlines()[-1] == "0"


def test_start_without_systemd_leaves_the_shell(tmp_path: Path) -> None:
    release(tmp_path, "#!/bin/sh\necho started; sleep 30\n")
    (tmp_path / "var").mkdir()
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "systemctl").chmod(0o755)
    path = f"PATH={shlex.quote(str(tmp_path))}:$PATH\n"
    words = ["sh", "-s"]
    done = subprocess.run(  # the pipe is at its end though the release goes on
        words,
        input=path + START,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        timeout=15,
    )
    assert done.stdout == ""
    log = tmp_path / "var" / "deploy.log"
    wait_for(lambda: log.exists() and log.read_text() == "started\n", 10)
