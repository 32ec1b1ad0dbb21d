"""The systemd unit of a deployment, as systemd itself reads it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from terraflow.serving.deploy.unit import START, STOP, unit_name, unit_text

VARIABLES = {"TERRAFLOW_VAR": "/srv/a b/var", "TERRAFLOW_SERVING_PORT": "5002"}
COMMANDS = [
    ["serve", "--model", "models:/land-cover@champion", "--follow"],
    ["serve", "--model", "../../models/0123", "--trust"],
    ["serve", "--model", 's3://bucket/100% "of $it" \\ here'],
    ["up"],
]


@pytest.mark.parametrize("command", COMMANDS)
def test_unit_is_one_that_systemd_takes(command: list[str], tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not here")
    root = tmp_path / "terraflow" / "land cover"
    program = root / "current" / ".venv" / "bin" / "invoke"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / unit_name("land_cover")
    unit.write_text(unit_text(str(root), command, VARIABLES))
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
def test_command_without_systemd_arrives_as_it_is(command: list[str], tmp_path: Path) -> None:
    program = tmp_path / "current" / ".venv" / "bin" / "invoke"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "var").mkdir()
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "systemctl").chmod(0o755)
    head = f"ROOT={shlex.quote(str(tmp_path))}; PATH={shlex.quote(str(tmp_path))}:$PATH\n"
    head += f"COMMAND={shlex.quote(shlex.join(command))}\n"
    subprocess.run(["sh", "-s"], input=f"{head}{START}wait\n", text=True, check=True, cwd=tmp_path)
    assert (tmp_path / "var" / "deploy.log").read_text().splitlines() == command
