"""Hints name what the user types: make, pixi or invoke."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from terraflow import console
from terraflow.console import command
from terraflow.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def by_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERRAFLOW_STARTED_BY", "make")


@pytest.mark.usefixtures("by_make")
def test_command_by_make_puts_words_into_args() -> None:
    assert command("up") == "make up"
    assert command("status", "--show-credentials") == 'make status ARGS="--show-credentials"'
    assert command("serve", "--run-id", "ID") == 'make serve ARGS="--run-id ID"'


@pytest.mark.usefixtures("by_make")
@pytest.mark.parametrize("word", ["two words", "it's", "$HOME", 'a"b', "back`tick", "scenes/*.tif"])
def test_command_by_make_words_arrive_as_they_are(word: str, tmp_path: Path) -> None:
    show = f"{sys.executable} -c 'import sys; print(sys.argv[1:])'"
    (tmp_path / "Makefile").write_text(f"map:\n\t@{show.replace('$', '$$')} $(ARGS)\n")
    done = subprocess.run(
        ["bash", "-c", command("map", "--model", word)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        # `make test` runs these tests: a make below another one tells its folder
        env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))},
    )
    assert done.stdout.strip() == str(["--model", word])


def test_command_by_pixi_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXI_PROJECT_ROOT", str(ROOT))
    monkeypatch.setenv("INIT_CWD", str(ROOT))
    assert command("up") == "pixi run up"
    assert command("status", "--show-credentials") == "pixi run status --show-credentials"


def test_command_in_a_pixi_shell_is_invoke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXI_PROJECT_ROOT", str(ROOT))
    assert command("up") == "invoke up"


def test_command_by_invoke_quotes_for_the_shell() -> None:
    assert shlex.split(command("map", "--items", "two words")) == [
        *("invoke", "map", "--items", "two words")
    ]


def test_makefile_tells_that_it_is_make() -> None:
    assert "\nexport TERRAFLOW_STARTED_BY := make\n" in (ROOT / "Makefile").read_text()


def ended(error: BaseException, log_dir: Path | None = None) -> int:
    """Exit code of a command that ends with an error."""
    find_log_dir = None if log_dir is None else lambda: log_dir
    with pytest.raises(SystemExit) as caught, console.report_errors(find_log_dir):
        raise error
    return int(str(caught.value.code))


def test_report_errors_users_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(ConfigError("Port 5000 is taken; end that.")) == 1
    assert capsys.readouterr().err == "Port 5000 is taken; end that.\n"


def test_report_errors_ctrl_c_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "Stopped.\n"


@pytest.mark.parametrize(("error", "why"), [("no 5 TiB", " (no 5 TiB)"), ("", "")])
def test_report_errors_lack_of_memory_is_one_sentence(
    error: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(MemoryError(error)) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"This machine's memory does not suffice{why}; end other programs, or")


def test_report_errors_ours_leaves_its_traceback_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(ZeroDivisionError("by zero"), tmp_path / "log") == 2
    said = capsys.readouterr().err
    assert said.startswith("ZeroDivisionError: by zero\nThis is an error of TerraFlow's own")
    assert str(tmp_path / "log" / "errors.log") in said
    log = (tmp_path / "log" / "errors.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert ended(BrokenPipeError("of a process that died"), tmp_path / "log") == 2
    assert (tmp_path / "log" / "errors.log").read_text().count("Traceback") == 2


def test_report_errors_long_log_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "MAX_LOG_BYTES", 2000)
    for number in range(40):
        ended(ValueError(f"number {number}"), tmp_path / "log")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "log").iterdir()}
    assert set(sizes) == {"errors.log", "errors.log.1"}
    assert max(sizes.values()) < 5000
    assert "number 39" in (tmp_path / "log" / "errors.log").read_text()
    assert (tmp_path / "log" / "errors.log").stat().st_mode & 0o777 == 0o600


def test_report_errors_log_that_cant_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert ended(ZeroDivisionError("by zero"), tmp_path / "file" / "log") == 2
    assert "by zero" in capsys.readouterr().err


def test_report_errors_without_a_log_keeps_the_traceback() -> None:
    with pytest.raises(ZeroDivisionError), console.report_errors():
        raise ZeroDivisionError


def test_table_last_column_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(("a", "bb"), [("long", "x" * 200), ("s", "y")])
    assert capsys.readouterr().out.splitlines() == ["a     bb", "long  " + "x" * 200, "s     y"]


def test_confirm_needs_a_terminal_or_a_yes(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.confirm("All is lost.", yes=True)
    assert capsys.readouterr().out == "All is lost.\n"
    with pytest.raises(ConfigError, match="no terminal to ask; repeat with --yes"):
        console.confirm("All is lost.", yes=False)


@pytest.mark.parametrize(("answer", "expected"), [("y", True), (" YES ", True), ("", False)])
def test_confirm_asks_on_a_terminal(
    answer: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    assert console.confirm("All is lost.", yes=False) is expected


def test_progress_writes_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.progress(3, "map", "windows") as bar:
        bar.mininterval = 0
        for _ in range(3):
            bar.update(1)
    said = capsys.readouterr().err
    assert "map: 100%" in said
    assert "\r" not in said
    assert len(said.splitlines()) >= 4
    assert all(line.startswith("map: ") for line in said.splitlines())


def test_confirm_end_of_input_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", end)
    assert not console.confirm("All is lost.", yes=False)


PRINT = """
import os, sys
from terraflow.console import is_read, keep_streams, report_errors, say
keep_streams()
path = sys.argv[1]
with report_errors(), open(path, "w") as file:
    say("first")
    print("beside", file=sys.stderr, flush=True)
    say("x" * 100_000)
    file.write(f"went on {file.fileno() > 2} {os.get_inheritable(1)} {is_read()}")
"""


@pytest.mark.parametrize(
    ("redirection", "code", "read"),
    [
        ("", 0, True),
        ("| true", 0, False),
        ("2>&1 | true", 0, False),
        (">/dev/full", 1, False),
        (">/dev/full 2>&1", 1, False),
        (">&-", 0, True),
        (">&- 2>&- <&-", 0, True),
        ("2>&-", 0, True),
    ],
)
def test_keep_streams_work_goes_on_without_a_reader(
    redirection: str, code: int, read: bool, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    script = f'{{ sleep 0.2; "$@"; echo " $?" >>"$0"; }} {redirection}'
    words = [str(told), sys.executable, "-c", PRINT, str(told)]
    done = subprocess.run(
        ["bash", "-c", script, *words], capture_output=True, text=True, check=False
    )
    deadline = time.monotonic() + 20
    while not (text := told.read_text() if told.exists() else "").endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert text == f"went on True True {read} {code}\n"
    lost = "could not be written: No space left on device"
    assert (lost in done.stderr) == (redirection == ">/dev/full")
    assert "Traceback" not in done.stderr
    assert ("beside" in done.stderr) == ("2>" not in redirection)


def test_keep_streams_output_that_does_not_block_is_waited_for() -> None:
    """As other programs, ssh among them, leave a terminal."""
    code = (
        "import os; from terraflow.console import keep_streams, say\n"
        "os.set_blocking(1, False); keep_streams(); say('x' * 1_000_000)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        time.sleep(0.5)
        assert len(process.stdout.read()) == 1_000_001
    assert process.returncode == 0


def test_stop_on_hangup_ends_in_order_unless_it_is_ignored() -> None:
    code = (
        "import os, signal; from terraflow.console import report_errors, stop_on_hangup\n"
        "stop_on_hangup()\n"
        "with report_errors():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print('goes on')"
    )
    stopped, ignored = (
        subprocess.run(
            [*words, sys.executable, "-c", code], check=False, capture_output=True, text=True
        )
        for words in ([], ["nohup"])
    )
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (130, "", "Stopped.\n")
    assert (ignored.returncode, ignored.stdout) == (0, "goes on\n")
