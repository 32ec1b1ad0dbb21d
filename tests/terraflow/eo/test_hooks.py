"""What a project brings along: remembered by models, found again, or told to be missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from area import make_project
from samples import CLASSES, FEATURES, make_samples, write_samples
from terraflow.eo.hooks import (
    HookRecord,
    Hooks,
    code_folders,
    find_hooks,
    hooks_digest,
    record_hooks,
)
from terraflow.eo.models.model import load_model
from terraflow.eo.training.train import Trained, train
from terraflow.errors import ConfigError, DataError
from terraflow.settings import Settings
from terraflow.storage import Storage

OWN = '''
"""Features and models of a project."""

from sklearn.ensemble import RandomForestClassifier


def brightest(cube):
    """Give the brightest value."""
    return {"brightest": cube["red"].max("time").values}


class MyForest(RandomForestClassifier):
    """A forest of this project's own."""
'''


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> ModuleType:
    """A package on Python's path that is a project's own; each test has one of another name."""
    name = f"own_{abs(hash(request.node.name)) % 10**8}"
    folder = tmp_path / "project" / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path / "project")
    invalidate_caches()
    return import_module(f"{name}.parts")


def hooks_of(own: ModuleType) -> Hooks:
    package = own.__name__.partition(".")[0]
    return Hooks((own.brightest,), {"my_forest": own.MyForest}, package=package)


def test_record_hooks_names_what_a_model_depends_on(own: ModuleType) -> None:
    record = record_hooks(hooks_of(own), "my_forest")
    assert record.target == "classification"
    assert record.features == [f"{own.__name__}:brightest"]
    assert record.model == f"{own.__name__}:MyForest"
    assert record_hooks(hooks_of(own), "mlp").model == ""
    assert record_hooks(Hooks(), "mlp").digest == ""


def edit(own: ModuleType, old: str, new: str) -> None:
    path = Path(str(own.__file__))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_hooks_digest_changes_with_the_code_and_not_with_a_docstring(own: ModuleType) -> None:
    hooks = hooks_of(own)
    before = hooks_digest(hooks)
    edit(own, "Give the brightest value.", "Give the value of the brightest date.")
    assert hooks_digest(hooks) == before
    edit(own, '.max("time")', '.min("time")')
    assert hooks_digest(hooks) != before


def test_find_hooks_takes_those_of_the_project_and_imports_others(own: ModuleType) -> None:
    record = record_hooks(hooks_of(own), "mlp")
    assert find_hooks(record, hooks_of(own), "m").features == [own.brightest]
    assert find_hooks(record, Hooks(), "m").features == [own.brightest]


@pytest.mark.parametrize(
    "names", [{"features": ["os:system"]}, {"target": "os:abort"}, {"features": ["this:d"]}]
)
def test_find_hooks_of_a_stranger_are_not_imported(names: dict[str, Any]) -> None:
    sys.modules.pop("this", None)
    with pytest.raises(ConfigError, match=r"would run (os|this):.* --trust"):
        find_hooks(HookRecord(**names), Hooks(), "a/model", known_only=True)
    assert "this" not in sys.modules


def test_find_hooks_of_a_stranger_are_taken_from_the_project(own: ModuleType) -> None:
    record = record_hooks(hooks_of(own), "mlp")
    found = find_hooks(record, hooks_of(own), "a/model", known_only=True)
    assert found.features == [own.brightest]
    with pytest.raises(ConfigError, match="which is not of this project"):
        find_hooks(record, Hooks(), "a/model", known_only=True)


def test_find_hooks_missing_one_is_named(own: ModuleType) -> None:
    record = record_hooks(hooks_of(own), "mlp")
    gone = record.model_copy(update={"features": ["nowhere.parts:brightest"]})
    with pytest.raises(DataError, match=r"Model m needs nowhere\.parts:brightest, which can't be"):
        find_hooks(gone, Hooks(), "m")


def test_find_hooks_changed_code_is_refused(own: ModuleType) -> None:
    record = record_hooks(hooks_of(own), "mlp")
    edit(own, '.max("time")', '.min("time")')
    with pytest.raises(DataError, match=r"The code of \S+:brightest changed since model m was"):
        find_hooks(record, hooks_of(own), "m")


def test_code_folders_are_the_projects_and_no_installed_package(own: ModuleType) -> None:
    package = own.__name__.partition(".")[0]
    hooks = Hooks((own.brightest,), {"forest": RandomForestClassifier}, package=package)
    [folder] = code_folders(record_hooks(hooks, "forest"), package)
    assert Path(folder) == Path(str(own.__file__)).parent


@pytest.mark.parametrize("site", ["site-packages", "dist-packages"])
def test_code_folders_leave_out_what_another_environment_lends(
    site: str, own: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = f"lent_{site[:4]}_{own.__name__.partition('.')[0]}"
    (tmp_path / site / lent).mkdir(parents=True)
    (tmp_path / site / lent / "__init__.py").write_text("class Forest: pass\n")
    monkeypatch.syspath_prepend(tmp_path / site)
    invalidate_caches()
    hooks = Hooks((), {"forest": import_module(lent).Forest}, package="other")
    record = record_hooks(hooks, "forest")
    assert record.model == f"{lent}:Forest"
    assert code_folders(record, "other") == []
    assert code_folders(record, lent) == [str(tmp_path / site / lent)]


def trained(own: ModuleType, settings: Settings) -> Trained:
    config = make_project(
        name=own.__name__.partition(".")[0].replace("_", "-"),
        model={"name": "my_forest", "parameters": {"n_estimators": 5}},
        validation={"folds": 3, "resamples": 100},
    )
    storage = Storage(settings)
    prepared = write_samples(make_samples(), config, storage)
    return train(config, hooks_of(own), prepared, storage)


ASK = """
import json, sys
import mlflow, pandas as pd
assert not [path for path in sys.path if path.endswith("project")]
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(list(model.predict(pd.read_json(sys.stdin)))))
print(type(model.get_raw_model()).__module__)
"""


def test_model_of_a_project_is_served_where_the_project_is_not(
    own: ModuleType, tracked_settings: Settings
) -> None:
    made = trained(own, tracked_settings)
    rows = make_samples()[FEATURES].head(20).astype("float64")
    done = subprocess.run(
        [sys.executable, "-c", ASK, made.model],
        input=rows.to_json(),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"MLFLOW_TRACKING_URI": tracked_settings.mlflow_url},
    )
    answer, module = done.stdout.splitlines()[-2:]
    loaded = load_model(made.model, tracked_settings, hooks_of(own))
    assert json.loads(answer) == loaded.estimator.predict(rows).tolist()
    assert set(json.loads(answer)) <= set(CLASSES)
    assert module == own.__name__


MAP = """
import sys
from terraflow.eo.hooks import Hooks
from terraflow.eo.models.model import load_model
from terraflow.settings import load
print(load_model(sys.argv[1], load(), Hooks()).hooks.features)
"""


def test_load_model_elsewhere_takes_the_hooks_along(
    own: ModuleType, tracked_settings: Settings
) -> None:
    made = trained(own, tracked_settings)
    done = subprocess.run(
        [sys.executable, "-c", MAP, made.model], capture_output=True, text=True, check=True
    )
    assert "function brightest" in done.stdout


def test_record_hooks_function_that_no_name_finds_is_refused() -> None:
    def inner(cube: object) -> dict[str, np.ndarray]:
        return {}

    for hooks in (Hooks((inner,)), Hooks(models={"mine": lambda: None})):
        with pytest.raises(ConfigError, match="is no function of a module"):
            record_hooks(hooks, "mine")
