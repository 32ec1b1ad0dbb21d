"""The training in Python and in YAML is one pipeline."""

from __future__ import annotations

from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

FOLDER = Path(__file__).resolve().parents[2] / "dags"


def test_python_and_yaml_give_the_same_pipeline() -> None:
    bag = DagBag(dag_folder=str(FOLDER), safe_mode=True)
    python, yaml = (bag.dags[f"land_cover_training{end}"] for end in ("", "_yaml"))
    for name in python.task_ids:
        ours, theirs = python.get_task(name), yaml.get_task(name)
        assert type(ours) is type(theirs)
        assert ours.upstream_task_ids == theirs.upstream_task_ids
        assert (ours.pool, ours.outlets) == (theirs.pool, theirs.outlets)
    assert sorted(python.task_ids) == sorted(yaml.task_ids)
    forms = [{name: dag.params.get_param(name) for name in dag.params} for dag in (python, yaml)]
    assert forms[0].keys() == forms[1].keys()
    for name, param in forms[0].items():
        other = forms[1][name]
        assert (param.resolve(), param.schema["type"]) == (other.resolve(), other.schema["type"])
