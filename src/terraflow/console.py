"""What the user sees: lines, tables, commands to type next, and errors without a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import select
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from terraflow.config import host_environment
from terraflow.errors import ConfigError, TerraFlowError
from terraflow.files import rotate

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = [
    "ask",
    "command",
    "confirm",
    "is_read",
    "keep_streams",
    "progress",
    "report_errors",
    "say",
    "stop_on_hangup",
    "stop_on_sigterm",
    "table",
]


class _Lasting(io.FileIO):
    """An output of this process that never fails: what nobody takes any more is lost."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # another program let it not block
                select.select([], [self], [])
            return written
        except OSError as error:  # a closed pipe or terminal, a full disk
            self.lost = error
            return len(memoryview(data).cast("B"))


_outputs: list[_Lasting] = []


def keep_streams() -> None:
    """Let nothing that this process or what it starts writes fail for want of a reader.

    An output that is closed from the start leads nowhere: else the next file that is opened, as a
    lock, would take its number, and what is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number is free
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        if before:
            with contextlib.suppress(OSError):
                before.flush()
        raw = _Lasting(number, "w", closefd=False)
        _outputs.append(raw)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=before.encoding if before else "utf-8",
            errors=before.errors if before else "backslashreplace",
            line_buffering=number == 2 or raw.isatty(),
        )
        setattr(sys, name, stream)


def is_read() -> bool:
    """Tell whether anybody reads what is printed, as far as the system knows."""
    poll = select.poll()
    poll.register(1, 0)
    gone = select.POLLERR | select.POLLHUP
    return not any(output.lost for output in _outputs) and not any(
        event & gone for _, event in poll.poll(0)
    )


#: Of errors.log and of the one before it.
MAX_LOG_BYTES = 1_000_000


def say(line: str = "") -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def progress(total: int, label: str, unit: str = "") -> tqdm[NoReturn]:
    """Open a progress bar on stderr; `update(n)` moves it, and it is a context manager.

    Where stderr is no terminal, as in a task's log, it writes a line every ten seconds.
    """
    from tqdm import tqdm  # noqa: PLC0415 - every task imports this module

    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=label,
        unit=f" {unit}" if unit else "it",
        file=sys.stderr if terminal else _Lines(),
        mininterval=0.1 if terminal else 10,
        dynamic_ncols=terminal,
    )


class _Lines:
    """Writes each state of a progress bar as a line: a log has no place for control characters."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the last column is never cut."""
    rows = [header, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header) - 1)]
    for row in rows:
        say("  ".join([*(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)), row[-1]]))


def command(task: str, *words: str) -> str:
    """Write a command as the user types it: with make, pixi or invoke, by what started this one.

    Make exports TERRAFLOW_STARTED_BY. `pixi run` sets INIT_CWD, which `pixi shell` does not: there
    `invoke` is on the path.

    Parameters
    ----------
    task : str
        A task, such as "status".
    words : str
        Its options and arguments, such as "--show-credentials".

    Returns
    -------
    str
        Such as `make status ARGS="--show-credentials"`.

    Examples
    --------
    >>> command("logs", "mlflow")
    'invoke logs mlflow'
    """
    variables = host_environment()
    if variables.get("TERRAFLOW_STARTED_BY") == "make":
        arguments = shlex.join(words).replace("$", "$$")
        plain = not set(arguments) & set('"`\\$!')
        quoted = f'"{arguments}"' if plain else shlex.quote(arguments)
        return f"make {task} ARGS={quoted}" if words else f"make {task}"
    by_pixi = "PIXI_PROJECT_ROOT" in variables and "INIT_CWD" in variables
    return f"{'pixi run' if by_pixi else 'invoke'} {shlex.join([task, *words])}"


@contextlib.contextmanager
def report_errors(find_log_dir: Callable[[], Path] | None = None) -> Iterator[None]:
    """Turn an error into an exit code: the one boundary of every command.

    A `TerraFlowError` is printed as it is, exit code 1; so is a lack of memory. Ctrl+C exits with
    130. Anything else is ours: its full traceback goes to errors.log, whose path is printed, exit
    code 2. Output that was lost because its disk is full or its terminal is gone makes the exit
    code 1 at the end; a reader of a pipe, as head, may have had enough.

    Parameters
    ----------
    find_log_dir : callable, optional
        Tells the folder of the log file, once there is something to write; without it the traceback
        is printed.
    """
    try:
        yield
        _report_lost()
    except TerraFlowError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
    except MemoryError as error:
        print(
            f"This machine's memory does not suffice{f' ({error})' if str(error) else ''}; end "
            "other programs, or take a smaller area, fewer samples or a smaller model.",
            file=sys.stderr,
        )
        sys.exit(1)
    except Exception as error:
        if find_log_dir is None:
            raise
        log = find_log_dir() / "errors.log"
        try:
            _log_traceback(log)
        except OSError as full:
            print(f"{type(error).__name__}: {error}; {log}: {full.strerror}", file=sys.stderr)
            sys.exit(2)
        print(
            f"{type(error).__name__}: {error}\nThis is an error of TerraFlow's own, or of a "
            f"library; please report it with the traceback in {log}.",
            file=sys.stderr,
        )
        sys.exit(2)


def _log_traceback(log: Path) -> None:
    """Append the traceback of what is being handled."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    rotate(log, MAX_LOG_BYTES)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
        file.write(f"--- {datetime.now().astimezone().isoformat()} {sys.argv}\n")
        file.write(traceback.format_exc())


def _report_lost() -> None:
    for output in _outputs:
        if output.lost and not isinstance(output.lost, BrokenPipeError):
            print(
                f"What was printed could not be written: {output.lost.strerror}; all else was "
                "done.",
                file=sys.stderr,
            )
            sys.exit(1)


def stop_on_sigterm() -> None:
    """Treat SIGTERM as Ctrl+C, so that what was begun is ended in order."""
    _stop_on(signal.SIGTERM)


def stop_on_hangup() -> None:
    """Treat the end of the terminal as Ctrl+C, unless it is to be ignored, as nohup makes it."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        _stop_on(signal.SIGHUP)


def _stop_on(number: signal.Signals) -> None:
    def stop(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(number, stop)


def confirm(loss: str, *, yes: bool) -> bool:
    """Say what will be lost and ask; without a terminal only `yes` is a yes.

    Raises
    ------
    ConfigError
        There is nobody to ask.
    """
    say(loss)
    if yes:
        return True
    if not sys.stdin or not sys.stdin.isatty():
        raise ConfigError("There is no terminal to ask; repeat with --yes to delete it.")
    return ask("Delete it?")


def ask(question: str) -> bool:
    """Ask with a yes or no; where there is no terminal to ask it is no."""
    if not sys.stdin or not sys.stdin.isatty():
        return False
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl+D
        say()
        return False
