from __future__ import annotations

import json
import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models.model import ModelInfo as LoggedModel
from scipy.stats import zscore
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from area import make_project
from samples import CLASSES, FEATURES, make_samples
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.config.sections import Model
from terraflow.eo.hooks import Hooks
from terraflow.eo.models.choice import ModelChoice, choose_model, fit, one_thread
from terraflow.eo.models.estimators import CLASSIFIERS
from terraflow.eo.models.model import LoadedModel, ModelInfo, log_model
from terraflow.eo.models.model import load_model as load_with
from terraflow.errors import ConfigError, DataError, ServiceError
from terraflow.serving.app.model.table import check_table, parse_table
from terraflow.settings import Settings, load
from terraflow.tracking import runs as tracking

SMALL: dict[str, dict[str, object]] = {
    "random_forest": {"n_estimators": 10},
    "lightgbm": {"n_estimators": 10},
    "mlp": {"hidden_layer_sizes": [5], "max_iter": 50},
}


def project(name: str) -> ProjectConfig:
    data = {"bands": {"red": "B04", "blue": "B02"}}
    return make_project(name="models", data=data, model={"name": name, "parameters": SMALL[name]})


def choice(one: ProjectConfig) -> ModelChoice:
    return choose_model(one.model, {}, seed=one.seed)


def load_model(uri: str, settings: Settings) -> LoadedModel:
    return load_with(uri, settings, Hooks())


def told(one: ProjectConfig) -> ModelInfo:
    return ModelInfo(
        levels=CLASSES,
        features=FEATURES,
        periods=["2024-04"],
        seed=one.seed,
        config=one.model_dump(mode="json"),
    )


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_log_model_reads_back_the_same_model_for_maps_and_for_the_server(
    name: str, tracked_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, one = make_samples(), project(name)
    with one_thread():
        model = fit(choice(one).make(), samples[FEATURES], samples["class_name"])
    with tracking.start_run(tracked_settings, "models", name=name, tags={}) as run:
        info = log_model(model, samples[FEATURES], choice(one), told(one))
        version = tracking.register(info.model_uri, f"models-{name}", "challenger")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    loaded = load_model(f"models:/models-{name}@challenger", tracked_settings)
    assert list(scratch.iterdir()) == []  # each map would leave a copy of the model there
    assert (loaded.version, loaded.run_id) == (version, run.info.run_id)
    assert load_model(f"models:/models-{name}/{version}", tracked_settings).version == version
    assert load_model(f"runs:/{run.info.run_id}/model", tracked_settings).version == ""
    assert (loaded.info.levels, loaded.info.features) == (CLASSES, FEATURES)
    assert loaded.info.periods == ["2024-04"]
    assert loaded.config == one
    assert list(loaded.config.data.bands) == ["red", "blue"]  # the features' order
    expected = model.predict_proba(samples[FEATURES])
    assert (loaded.estimator.predict_proba(samples[FEATURES]) == expected).all()

    served = mlflow.pyfunc.load_model(info.model_uri)
    names = np.array(CLASSES)[expected.argmax(axis=1)]
    assert (served.predict(samples[FEATURES]) == names).all()  # float32
    body = {"dataframe_split": json.loads(samples[FEATURES].to_json(orient="split", index=False))}
    table = parse_table(json.dumps(body).encode(), "application/json")
    assert set(table.dtypes.astype(str)) == {"float64"}
    answer = served.predict(check_table(table, served.metadata.get_input_schema()))
    assert (answer == names).all()


def test_load_model_of_another_server_gets_no_token(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="lies on another server"):
        load_model("mlflow-artifacts://127.0.0.1:9/model", settings)


def test_load_model_unknown_one_is_a_sentence(tracked_settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"models:/none@champion can't be read: .*; name a model"):
        load_model("models:/none@champion", tracked_settings)


def test_load_model_without_mlflow_tells_how_to_start_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRAFLOW_MLFLOW_PORT", "1")
    with pytest.raises(ServiceError, match="start the stack with `invoke up`"):
        load_model("models:/none@champion", load())


@pytest.mark.parametrize("lacking", ["levels", "config"])
def test_load_model_of_another_kind_tells_what_it_lacks(
    lacking: str, tracked_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, one = make_samples(), project("random_forest")
    model = fit(choice(one).make(), samples[FEATURES], samples["class_name"])
    values = {key: value for key, value in told(one).to_metadata().items() if key != lacking}
    monkeypatch.setattr(ModelInfo, "to_metadata", lambda info: values)
    with tracking.start_run(tracked_settings, "models", name="x", tags={}):
        info = log_model(model, samples[FEATURES], choice(one), told(one))
    with pytest.raises(DataError, match=f"does not tell what it was trained with .*{lacking}"):
        load_model(info.model_uri, tracked_settings)


def test_load_model_not_of_scikit_learn_is_a_sentence(
    tracked_settings: Settings, tmp_path: Path
) -> None:
    class Other(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, model_input: pd.DataFrame) -> list[str]:
            return ["forest"] * len(model_input)

    mlflow.pyfunc.save_model(str(tmp_path / "other"), python_model=Other())
    with pytest.raises(ConfigError, match="runs code when it is loaded"):
        load_model(str(tmp_path / "other"), tracked_settings)


def read_requirements(info: LoggedModel) -> set[str]:
    folder = Path(mlflow.artifacts.download_artifacts(info.model_uri))
    lines = (folder / "requirements.txt").read_text().split()
    return {line.partition("==")[0] for line in lines}


def scored_forest(n_estimators: int = 5) -> Pipeline:
    """A function of the project whose model needs a library that it does not name itself."""
    return make_pipeline(FunctionTransformer(zscore), RandomForestClassifier(n_estimators))


@pytest.mark.parametrize(("package", "further"), [("", {"scipy"}), ("scipy", set())])
def test_log_model_pins_the_libraries_of_what_was_fitted_but_not_the_project(
    package: str, further: set[str], tracked_settings: Settings
) -> None:
    samples, one = make_samples(), project("random_forest")
    built_in = fit(choice(one).make(), samples[FEATURES], samples["class_name"])
    own = choose_model(Model(name="scored"), {"scored": scored_forest}, seed=1)
    model = fit(own.make(), samples[FEATURES], samples["class_name"])
    with tracking.start_run(tracked_settings, "models", name="x", tags={}):
        plain = log_model(built_in, samples[FEATURES], choice(one), told(one))
        info = log_model(model, samples[FEATURES], own, told(one), package=package)
    always = {"lightgbm", "mlflow", "numpy", "pandas", "scikit-learn", "skops"}
    assert read_requirements(plain) == always
    assert read_requirements(info) == always | further
    assert load_model(info.model_uri, tracked_settings).info.levels == CLASSES
