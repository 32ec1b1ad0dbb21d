"""Another machine: a real sshd on a loopback port, which lets one other user in by a key."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import wait_for

USER = "terraflow-test"
SSHD = "/usr/sbin/sshd"


@dataclass
class Machine:
    """The other user's account, and how ssh finds it."""

    name: str
    ssh_config: Path
    home: Path

    def run(self, script: str) -> str:
        words = ["ssh", "-F", str(self.ssh_config), self.name, "sh", "-s"]
        done = subprocess.run(words, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def skip_unless_possible() -> None:
    if getpass.getuser() != "root":
        pytest.skip("only root makes another user")
    missing = [name for name in ("ssh", "ssh-keygen", "rsync", "make") if not shutil.which(name)]
    if missing or not Path(SSHD).exists():
        pytest.skip(f"{', '.join(missing) or 'sshd'} is not here (openssh-server, rsync, make)")


@contextmanager
def machine(folder: Path, port: int) -> Iterator[Machine]:
    """Make the user, and let sshd run."""
    skip_unless_possible()
    subprocess.run(["userdel", "--remove", USER], capture_output=True, check=False)
    subprocess.run(
        ["useradd", "--create-home", "--password", "*", "--shell", "/bin/sh", USER], check=True
    )
    account = pwd.getpwnam(USER)
    home = Path(account.pw_dir)
    try:
        for key in ("host", "user"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
            subprocess.run(words, check=True)
        (home / ".ssh").mkdir(mode=0o700)
        shutil.copy(folder / "user.pub", home / ".ssh" / "authorized_keys")
        for path in (home / ".ssh", home / ".ssh" / "authorized_keys"):
            os.chown(path, account.pw_uid, account.pw_gid)
        Path("/run/sshd").mkdir(exist_ok=True)
        (folder / "sshd_config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
            f"UsePAM no\nPasswordAuthentication no\nAllowUsers {USER}\nStrictModes no\n"
            f"SetEnv {' '.join(inherited())}\n"
        )
        (folder / "ssh_config").write_text(
            f"Host other\n  HostName 127.0.0.1\n  Port {port}\n  User {USER}\n"
            f"  IdentityFile {folder}/user\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {folder}/known\n  StrictHostKeyChecking accept-new\n"
            "  LogLevel ERROR\n"
        )
        with (folder / "sshd.log").open("wb") as log:
            words = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
            server = subprocess.Popen(words, stdout=log, stderr=log)
        other = Machine("other", folder / "ssh_config", home)
        try:
            words = ["ssh", "-F", str(other.ssh_config), other.name, "true"]
            wait_for(lambda: subprocess.run(words, check=False).returncode == 0, 20)
            yield other
        finally:
            server.terminate()
            server.wait(10)
    finally:
        subprocess.run(["pkill", "-KILL", "-u", str(account.pw_uid)], check=False)
        subprocess.run(["userdel", "--remove", "--force", USER], capture_output=True, check=False)


def inherited() -> list[str]:
    """What of this shell finds the index of packages."""
    names = ("PIP_CERT", "SSL_CERT_FILE", "PIP_DEFAULT_TIMEOUT", "PIP_FIND_LINKS")
    return [f"{name}={os.environ[name]}" for name in names if name in os.environ] or ["LANG=C"]
