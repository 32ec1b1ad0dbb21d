"""What a model would run is told without running it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import skops.io
import yaml
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from terraflow.errors import ConfigError
from terraflow.tracking.trust import check_address, check_trusted, code_that_runs, is_ours

TABLE = pd.DataFrame({"red": [0.1, 0.9, 0.2, 0.8], "nir": [0.9, 0.1, 0.8, 0.2]})
CLASSES = ["forest", "water"] * 2


class Own(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A model of a project."""

    def fit(self, table: pd.DataFrame, classes: Any) -> Own:
        self.classes_ = list(classes)
        return self

    def predict(self, table: pd.DataFrame) -> list[str]:
        return self.classes_[:1] * len(table)


class Evil:
    """Makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def save(estimator: Any, folder: Path, **options: Any) -> Path:
    path = folder / "model"
    types = skops.io.get_untrusted_types(data=skops.io.dumps(estimator))
    mlflow.sklearn.save_model(
        estimator.fit(TABLE, CLASSES),
        path,
        pip_requirements=[],
        skops_trusted_types=types + skops.io.get_untrusted_types(data=skops.io.dumps(estimator)),
        **options,
    )
    return path


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(3),
        make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=5)),
        LGBMClassifier(n_estimators=2, verbose=-1),
    ],
    ids=["logistic", "forest", "mlp", "lightgbm"],
)
def test_models_that_terraflow_trains_run_nothing(estimator: Any, tmp_path: Path) -> None:
    assert list(code_that_runs(save(estimator, tmp_path), ours=False)) == []


def test_lightgbm_of_mlflow_runs_nothing(tmp_path: Path) -> None:
    model = LGBMClassifier(n_estimators=2, verbose=-1).fit(TABLE, CLASSES)
    mlflow.lightgbm.save_model(model.booster_, tmp_path / "model", pip_requirements=[])
    assert list(code_that_runs(tmp_path / "model", ours=False)) == []


@pytest.mark.parametrize(
    ("uri", "ours"),
    [
        ("models:/land-cover@champion", True),
        ("models:/land-cover/3", True),
        ("runs:/0123/model", True),
        ("models://other@databricks/land-cover/3", False),
        ("models:", False),
        ("models:land-cover", False),
        ("runs://x/model", False),
        ("Models:/x/1", False),
        (" models:/x/1", False),
        ("mlflow-artifacts:/1/model", False),
        ("folder/models:/x", False),
        ("", False),
    ],
)
def test_address_of_this_registry_is_told_from_others(uri: str, ours: bool) -> None:
    assert is_ours(uri) is ours


@pytest.mark.parametrize(
    ("uri", "refused"),
    [
        ("mlflow-artifacts://127.0.0.1:9999/model", True),
        ("mlflow-artifacts://evil.example/model", True),
        ("http://127.0.0.1:5001/api/2.0/mlflow-artifacts/artifacts/model", True),
        (" HTTPS://evil.example/model", True),
        ("MLFLOW-ARTIFACTS://x@127.0.0.1:5000/model", True),
        ("mlflow-artifacts://127.0.0.1:5000/model", False),
        ("http://127.0.0.1:5000/api/2.0/mlflow-artifacts/artifacts/model", False),
        ("mlflow-artifacts:/1/model", False),
        ("models:/land-cover@champion", False),
        ("s3://bucket/model", False),
        ("folder/model", False),
        ("", False),
    ],
)
def test_address_that_would_get_the_token_is_refused(uri: str, refused: bool) -> None:
    if not refused:
        return check_address(uri, "http://127.0.0.1:5000")
    with pytest.raises(ConfigError, match="lies on another server, which would get the token"):
        check_address(uri, "http://127.0.0.1:5000")


def test_type_of_a_stranger_is_told_and_one_of_ours_is_trusted(tmp_path: Path) -> None:
    path = save(Own(), tmp_path)
    assert list(code_that_runs(path, ours=True)) == []
    [told] = code_that_runs(path, ours=False)
    assert told.startswith("types of model.skops: ")
    assert told.endswith("test_trust.Own")


def test_code_beside_a_model_is_told_and_that_of_ours_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "__init__.py").write_text("raise SystemExit\n")
    path = save(LogisticRegression(), tmp_path, code_paths=[str(tmp_path / "hooks")])
    assert list(code_that_runs(path, ours=False)) == ["the folder code"]
    assert list(code_that_runs(path, ours=True)) == []


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("protocol", range(6))
def test_pickle_is_told_with_what_it_calls_and_not_run(
    protocol: int, ours: bool, tmp_path: Path
) -> None:
    path = save(LogisticRegression(), tmp_path, serialization_format="pickle")
    (path / "model.pkl").write_bytes(pickle.dumps(Evil(tmp_path / "ran"), protocol))
    [told] = code_that_runs(path, ours=ours)
    assert told == "the pickle model.pkl calls posix.system"
    with pytest.raises(ConfigError, match=r"say --trust if you trust who made it\.$"):
        check_trusted(path, "models:/m/1", ours=ours)
    assert not (tmp_path / "ran").exists()


def test_pickle_under_another_name_is_told(tmp_path: Path) -> None:
    path = save(LogisticRegression(), tmp_path)
    (path / "model.skops").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    assert "the pickle model.skops calls posix.system" in list(code_that_runs(path, ours=True))
    assert not (tmp_path / "ran").exists()


def test_pickle_that_only_the_format_tells_is_told(tmp_path: Path) -> None:
    path = save(LogisticRegression(), tmp_path)
    (path / "model.skops").write_bytes(pickle.dumps(Evil(tmp_path / "ran"), 0))
    text = (path / "MLmodel").read_text()
    for other in ("pickle", "cloudpickle", "null"):
        (path / "MLmodel").write_text(text.replace("format: skops", f"format: {other}"))
        [told] = code_that_runs(path, ours=True)
        assert told == "the pickle model.skops calls posix.system"


@pytest.mark.parametrize("kind", ["pickle", "skops"])
@pytest.mark.parametrize("name", ["../other.skops", "/tmp/other.skops"])
def test_file_outside_of_the_model_is_told(name: str, kind: str, tmp_path: Path) -> None:
    path = save(LogisticRegression(), tmp_path)
    text = (path / "MLmodel").read_text().replace("format: skops", f"format: {kind}")
    outside = text.replace("pickled_model: model.skops", f"pickled_model: {name}")
    (path / "MLmodel").write_text(outside)
    assert f"the file {name}, which does not lie right in its folder" in list(
        code_that_runs(path, ours=True)
    )


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = yaml.safe_load((path / "MLmodel").read_text())
    change(document["flavors"])
    (path / "MLmodel").write_text(yaml.safe_dump(document))


def test_flavor_beside_that_of_the_loader_is_told(tmp_path: Path) -> None:
    """`load_model` asks for the flavor of scikit-learn, whatever the loader is."""
    path = tmp_path / "model"
    model = LGBMClassifier(n_estimators=2, verbose=-1).fit(TABLE, CLASSES)
    mlflow.lightgbm.save_model(model.booster_, path, pip_requirements=[])
    (path / "weights.txt").write_bytes(pickle.dumps(Evil(tmp_path / "ran"), 0))
    other = {"pickled_model": "weights.txt", "serialization_format": "pickle"}
    edit(path, lambda flavors: flavors.update(sklearn=other))
    assert list(code_that_runs(path, ours=True)) == ["flavors beside that of its loader: sklearn"]


@pytest.mark.parametrize("kind", ["sklearn", "lightgbm"])
def test_second_model_inside_is_told(kind: str, tmp_path: Path) -> None:
    inner = save(LogisticRegression(), tmp_path, serialization_format="pickle")
    if kind == "sklearn":
        path = save(LogisticRegression(), tmp_path / "outer")
        edit(path, lambda flavors: flavors["python_function"].update(data="sub"))
    else:
        path = tmp_path / "outer"
        model = LGBMClassifier(n_estimators=2, verbose=-1).fit(TABLE, CLASSES)
        mlflow.lightgbm.save_model(model.booster_, path, pip_requirements=[])
        edit(path, lambda flavors: flavors["python_function"].update(data="sub/model.pkl"))
    inner.rename(path / "sub")
    (path / "sub" / "model.pkl").write_bytes(pickle.dumps(Evil(tmp_path / "ran"), 0))
    assert "the model in sub" in list(code_that_runs(path, ours=False))
    (path / "sub" / "MLmodel").unlink()
    assert list(code_that_runs(path, ours=False))


@pytest.mark.parametrize("flavor", ["python_function", "sklearn", "lightgbm"])
def test_code_of_any_flavor_is_told(flavor: str, tmp_path: Path) -> None:
    path = save(LogisticRegression(), tmp_path)
    edit(path, lambda flavors: flavors.setdefault(flavor, {}).update(code="code"))
    assert "the folder code" in list(code_that_runs(path, ours=False))


def test_link_in_the_place_of_a_model_is_told(tmp_path: Path) -> None:
    path = save(LogisticRegression(), tmp_path)
    (path / "model.skops").rename(tmp_path / "model.skops")
    (path / "model.skops").symlink_to(tmp_path / "model.skops")
    assert any("model.skops, which does not" in told for told in code_that_runs(path, ours=False))


def test_lightgbm_goes_by_its_class_and_format_and_not_by_the_name(tmp_path: Path) -> None:
    path = tmp_path / "model"
    model = LGBMClassifier(n_estimators=2, verbose=-1).fit(TABLE, CLASSES)
    mlflow.lightgbm.save_model(model.booster_, path, pip_requirements=[])
    text = (
        (path / "MLmodel")
        .read_text()
        .replace("basic.Booster\n    ser", "sklearn.LGBMClassifier\n    ser")
    )
    (path / "MLmodel").write_text(text)
    skops.io.dump(Own().fit(TABLE, CLASSES), path / "model.lgb")
    [told] = code_that_runs(path, ours=False)
    assert told.startswith("types of model.lgb: ")
    (path / "MLmodel").write_text(text.replace("format: skops", "format: pickle"))
    (path / "model.lgb").write_bytes(pickle.dumps(Evil(tmp_path / "ran"), 0))
    [told] = code_that_runs(path, ours=True)
    assert told == "the pickle model.lgb calls posix.system"


def test_damaged_pickle_is_told(tmp_path: Path) -> None:
    path = save(LogisticRegression(), tmp_path, serialization_format="pickle")
    (path / "model.pkl").write_bytes(b"\x80\x04\x95")
    [told] = code_that_runs(path, ours=True)
    assert told.startswith("the pickle model.pkl calls what can't be told (")


def test_model_of_python_code_is_told(tmp_path: Path) -> None:
    class Mean(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, model_input: pd.DataFrame) -> Any:
            return model_input.mean(axis=1)

    path = tmp_path / "model"
    mlflow.pyfunc.save_model(path, python_model=Mean(), pip_requirements=[])
    [told] = code_that_runs(path, ours=True)
    assert told.startswith("the pickle python_model.pkl calls cloudpickle.")


def test_model_whose_code_is_a_script_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import mlflow\n\nclass Mean(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, model_input):\n        return [1]\n\n"
        "mlflow.models.set_model(Mean())\n"
    )
    path = tmp_path / "model"
    mlflow.pyfunc.save_model(path, python_model=str(script), pip_requirements=[])
    assert list(code_that_runs(path, ours=True)) == ["the loader mlflow.pyfunc.loaders.code_model"]
