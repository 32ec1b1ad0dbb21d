"""Words of `invoke dags` that are wrong before Airflow is asked."""

from __future__ import annotations

import sys

import pytest
from invoke.context import Context

from terraflow.tasks.dags import VALUED, dags
from terraflow.tasks.task import optional_argument


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dags", []),
        ("dags logs", ["action"]),
        ("dags logs x --run y --task=z", ["action", "name"]),
        ("dags --run y logs x", ["action", "name"]),
        ("dags trigger x --wait", ["action", "name"]),
        ("other", []),
    ],
)
def test_optional_argument_counts_words_but_no_values(
    line: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["invoke", *line.split()])
    assert optional_argument("dags", "action", "name", valued=VALUED) == expected


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"action": "lgos"}, "dags lgos is not known (did you mean logs?)"),
        ({"action": "pause"}, "lacks the name of a DAG; write dags pause NAME."),
        ({"action": "list", "name": "x"}, "dags list takes no name"),
        ({"action": "pause", "name": "x", "wait": True}, "dags pause takes no --wait"),
        ({"action": "backfill", "name": "x", "from_": "1"}, "--from '1' is no date"),
    ],
)
def test_dags_wrong_words_are_sentences(
    given: dict[str, object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        dags(Context(), conf=[], **given)
    assert ended.value.code == 1
    assert told in capsys.readouterr().err
