"""What a line of the Procfile runs first under plain `honcho start`: resolve, set up, supervise.

`terraflow.process.supervise` becomes this program where nobody has resolved the settings, and this
program becomes it again, with the stack's environment.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from terraflow.console import command, keep_streams, report_errors, say
from terraflow.disks.problems import disk_errors
from terraflow.errors import ConfigError, ServiceError
from terraflow.process.supervise import STARTERS, lineage
from terraflow.settings import load
from terraflow.stack import setup
from terraflow.stack.environment import environment
from terraflow.stack.services import SERVICES
from terraflow.state import manager_pid

__all__ = ["main"]


def main(arguments: list[str]) -> NoReturn:
    """Resolve the settings, then become the supervisor of one line.

    Parameters
    ----------
    arguments : list of str
        Words of the line, as `terraflow.process.supervise` takes them.

    Raises
    ------
    ConfigError
        A port is to be chosen, which needs one process that starts them all.
    ServiceError
        The stack already runs, or can't be set up.
    """
    settings = load(running=False)
    pid = manager_pid(settings.run_dir)
    if pid and pid not in lineage(STARTERS["honcho"]):
        raise ServiceError(
            f"TerraFlow already runs here (pid {pid}, state in {settings.var}); stop it with "
            f"`{command('down')}`."
        )
    settings = setup.decide_store(settings, wait=False)
    if any(port == 0 for _, port in settings.ports()):
        raise ConfigError(f"Plain `honcho start` can't choose free ports; use `{command('up')}`.")
    setup.prepare(settings)
    settings.save()
    name, *program = arguments
    if name in SERVICES and not SERVICES[name].has_use(
        settings
    ):  # honcho would stop all at its end
        say(f'not needed: store = "{settings.store}", database = "{settings.database.kind}"')
        program = [sys.executable, "-c", "import signal; signal.pause()"]
    os.execve(
        sys.executable,
        [sys.executable, "-m", "terraflow.process.supervise", name, *program],
        environment(settings),
    )


if __name__ == "__main__":
    keep_streams()
    with report_errors(), disk_errors(lambda: load(running=False, strict=False).folders):
        main(sys.argv[1:])
