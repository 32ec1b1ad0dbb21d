"""Another machine, over plain ssh and rsync."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from terraflow.console import say
from terraflow.errors import ConfigError, ServiceError, first_line

__all__ = ["NO_CONNECTION", "Host"]

SSH = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
#: Exit code of ssh itself.
NO_CONNECTION = 255
#: Exit code where the lock there is held.
BUSY = 75


class Host:
    """A machine that ssh reaches without a password.

    Parameters
    ----------
    name : str
        As ssh takes it: user@host, or a name of its configuration.
    root : str
        Folder of the deployment, relative to the home there.
    ssh_config : str
        A configuration of ssh instead of the user's.

    Attributes
    ----------
    variables : dict
        Set for each command there.
    """

    def __init__(self, name: str, root: str, *, ssh_config: str = "") -> None:
        if name.startswith("-") or not name or any(c.isspace() for c in name):
            raise ConfigError(f"{name!r} is no host; name one as ssh does, as user@host.")
        self.name, self.root = name, root
        self.ssh = [*SSH, *(["-F", ssh_config] if ssh_config else [])]
        self.variables: dict[str, str] = {}

    def try_to(
        self, script: str, values: Mapping[str, str] | None = None, *, show: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a script of sh in the deployment's folder there.

        Parameters
        ----------
        values : mapping
            Variables of the script.
        show : bool
            Let its output through.

        Raises
        ------
        ServiceError
            The machine can't be reached.
        """
        head = [f"{key}={shlex.quote(value)}" for key, value in (values or {}).items()]
        exports = [f"export {k}={shlex.quote(v)}" for k, v in self.variables.items()]
        text = "\n".join([self._where, *exports, *head, script, ""])
        done = subprocess.run(
            [*self.ssh, self.name, "sh", "-s"],
            input=text,
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode == NO_CONNECTION:
            raise self._unreachable(done.stderr)
        return done

    def run(self, script: str, what: str, values: Mapping[str, str] | None = None) -> str:
        """Run a script that has to go well; return what it prints.

        Parameters
        ----------
        what : str
            It does, for the message, as "make the environment".

        Raises
        ------
        ServiceError
            It did not.
        """
        done = self.try_to(script, values)
        if done.returncode:
            for line in done.stderr.splitlines()[-20:]:
                say(f"  {line}")
            raise ServiceError(
                f"{self.name} could not {what}: {_last(done.stderr or done.stdout)}; mend it and "
                "deploy again."
            )
        return done.stdout.strip()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let nobody else deploy there meanwhile.

        The lock is held by a process there that ends with this connection, however that ends.

        Raises
        ------
        ServiceError
            Somebody deploys there now, or the machine can't be reached.
        """
        script = (
            f"{self._where}\n"
            f"flock --nonblock --conflict-exit-code {BUSY} .lock sh -c 'echo locked; exec cat'"
        )
        with subprocess.Popen(
            [*self.ssh, self.name, f"sh -c {shlex.quote(script)}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as holder:
            try:
                if not holder.stdout or holder.stdout.readline().strip() != "locked":
                    told = holder.communicate()[1]
                    raise self._not_locked(told, holder.returncode)
                yield
            finally:
                if holder.stdin:
                    holder.stdin.close()

    def _not_locked(self, told: str, code: int) -> ServiceError:
        if code == NO_CONNECTION:
            return self._unreachable(told)
        if code == BUSY:
            return ServiceError(f"Somebody deploys to {self.name} now; wait until that has ended.")
        return ServiceError(f"{self.name} could not lock the deployment: {_last(told)}.")

    def _unreachable(self, told: str | None) -> ServiceError:
        return ServiceError(
            f"{self.name} can't be reached: {_last(told)}; see that `ssh {self.name}` works "
            "without a password."
        )

    @property
    def _where(self) -> str:
        folder = f'"$HOME/{self.root}"'
        return f"umask 077; mkdir -p {folder} && cd {folder} && ROOT=$PWD || exit 1"

    def copy(self, source: Path, target: str, options: Iterable[str] = ()) -> None:
        """Copy the content of a folder, or a file, into a folder there; what is there stays.

        Raises
        ------
        ServiceError
            It can't be copied.
        """
        here = f"{source}/" if source.is_dir() else str(source)
        there = f"{self.name}:{self.root}/{target}/"
        words = ["rsync", "-a", "--partial-dir=.partial", "-e", shlex.join(self.ssh), *options]
        try:
            done = subprocess.run(
                [*words, here, there], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise ConfigError("rsync is not here; install it, here and there.") from None
        if done.returncode:
            raise ServiceError(
                f"{source.name} can't be copied to {self.name}: {_last(done.stderr)}; see that "
                "rsync is there too, and deploy again: what has come is kept."
            )


def _last(text: str | None) -> str:
    lines = [line for line in (text or "").splitlines() if line.strip()]
    return first_line(lines[-1]) if lines else "it says nothing"
