from __future__ import annotations

from pathlib import Path

import pytest

from terraflow.process import output
from terraflow.process.output import Output


def test_output_goes_to_the_log_and_labelled_to_the_terminal(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    one = Output(tmp_path / "one.log", echo=True, label="one: ")
    one.open()
    one.write(b"first\nsec")
    one.write(b"ond\nlast")
    one.end_line()
    one.close()
    assert (tmp_path / "one.log").read_bytes() == b"first\nsecond\nlast"
    assert capfdbinary.readouterr().out == b"one: first\none: second\none: last\n"


def test_output_without_echo_prints_nothing(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    one = Output(tmp_path / "one.log", echo=False)
    one.open()
    one.write(b"secret\n")
    one.end_line()
    assert capfdbinary.readouterr().out == b""


def test_output_keeps_the_last_lines_with_text(tmp_path: Path) -> None:
    one = Output(tmp_path / "one.log", echo=False)
    one.write(b"".join(b"line %d\n\n" % number for number in range(9)))
    assert list(one.last_lines) == [f"line {number}" for number in range(4, 9)]


def test_output_long_log_takes_the_place_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_LOG_BYTES", 10)
    one = Output(tmp_path / "one.log", echo=False)
    one.open()
    for text in (b"first of all\n", b"second of all\n", b"third\n"):
        one.write(text)
    assert (tmp_path / "one.log").read_bytes() == b"third\n"
    assert (tmp_path / "one.log.1").read_bytes() == b"second of all\n"
