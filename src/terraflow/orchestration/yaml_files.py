"""DAGs from YAML files; a broken file breaks its own DAGs only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException
from dagfactory import load_yaml_dags

__all__ = ["load"]


class BrokenFiles(DAG):
    """Stands for files that no DAG can be made of: Airflow shows what it says as import error."""

    problems: tuple[str, ...] = ()

    def validate(self) -> None:
        """Refuse to be a DAG."""
        raise AirflowException("\n".join(self.problems))


def load(folder: Path) -> dict[str, Any]:
    """Make the DAGs of every YAML file of a folder.

    Returns
    -------
    dict
        Name to DAG. Where files are broken it has one DAG more, which Airflow refuses with a line
        for each of these files, while it takes the others.
    """
    made: dict[str, Any] = {}
    problems = []
    folder = folder.resolve()  # which dag-factory insists on
    for path in sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")]):
        try:
            load_yaml_dags(made, config_filepath=str(path), defaults_config_path=str(folder))
        except Exception as error:
            problems.append(f"{path}, line {_line(path, error)}: {_text(error)}")
    if problems:
        broken = BrokenFiles(dag_id="broken_yaml_files", schedule=None)
        broken.problems = tuple(problems)
        made[broken.dag_id] = broken
    return made


def _text(error: BaseException) -> str:
    """Give the innermost cause, which tells most, in one line."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if isinstance(error, yaml.MarkedYAMLError):
        return f"{error.problem}"
    return " ".join(f"{type(error).__name__}: {error}".split())


def _line(path: Path, error: BaseException) -> int:
    """Find the line: YAML's own, or that of a value that the error names, or the DAG's."""
    marks = [e.problem_mark for e in _chain(error) if isinstance(e, yaml.MarkedYAMLError)]
    if marks and marks[0]:
        return int(marks[0].line) + 1
    text = " ".join(str(e) for e in _chain(error))
    try:
        named = _names(yaml.compose(path.read_text()))
    except (OSError, yaml.YAMLError):
        return 1
    counts = Counter(name for name, _ in named)
    lines = [line for name, line in named if counts[name] == 1 and name in text]
    return max(lines, default=named[0][1] if named else 1)


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return found


def _names(node: Any) -> list[tuple[str, int]]:
    """List scalars of a document, of a dotted name its last part, with their lines."""
    if isinstance(node, yaml.ScalarNode):
        name = node.value.rpartition(".")[2]
        return [(name, node.start_mark.line + 1)] if len(name) > 2 else []
    if isinstance(node, yaml.MappingNode):
        return [name for pair in node.value for each in pair for name in _names(each)]
    return [name for each in getattr(node, "value", ()) for name in _names(each)]
