from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run

from area import make_project
from mlflow_server import MlflowServer
from samples import CLASSES, FEATURES, make_samples, write_samples
from terraflow.eo.built_in import Classification
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.hooks import Hooks
from terraflow.eo.models.model import LoadedModel
from terraflow.eo.models.model import load_model as load_with
from terraflow.eo.project import OpenProject, Project
from terraflow.eo.promotion.promote import consider
from terraflow.eo.samples.preprocess import Prepared
from terraflow.eo.training.train import Trained as Result
from terraflow.eo.training.train import show, train
from terraflow.errors import ConfigError, DataError
from terraflow.settings import Settings, load
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

Train = Callable[..., Result]


def load_model(uri: str, settings: Settings) -> LoadedModel:
    return load_with(uri, settings, Hooks())


FOREST = {"name": "random_forest", "parameters": {"n_estimators": 10}}


def project(experiment: str, **model: Any) -> ProjectConfig:
    return make_project(
        name=experiment,
        model=FOREST | model,
        validation={"folds": 3, "resamples": 200},
    )


@dataclass(frozen=True)
class Trained:
    result: Result
    run: Run
    files: dict[str, bytes]
    prepared: Prepared


@pytest.fixture
def run_train(tracked_settings: Settings) -> Train:
    def run(one: ProjectConfig, samples: pd.DataFrame, **options: Any) -> Result:
        storage = Storage(tracked_settings)
        prepared = write_samples(samples, one, storage, **options.pop("report", {}))
        return train(one, Hooks(), prepared, storage, **options)

    return run


@pytest.fixture(scope="module")
def trained(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One training, and all that its run holds."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERRAFLOW_CONFIG_DIR", str(folder))
        patch.setenv("TERRAFLOW_VAR", str(folder / "var"))
        patch.setenv("TERRAFLOW_STORE", "local")
        patch.setenv("TERRAFLOW_MLFLOW_PORT", str(mlflow_server.port))
        patch.setenv("TERRAFLOW_MLFLOW_TOKEN_FILE", str(mlflow_server.token_file))
        storage, one = Storage(load()), project("train-once")
        prepared = write_samples(make_samples(), one, storage, simulated=True)
        result = train(one, Hooks(), prepared, storage)
    path = mlflow.artifacts.download_artifacts(run_id=result.run_id, dst_path=str(folder))
    files = {file.name: file.read_bytes() for file in Path(path).iterdir() if file.is_file()}
    return Trained(result, mlflow.get_run(result.run_id), files, prepared)


def test_train_run_holds_what_makes_it_again_and_what_judges_it(
    trained: Trained,
) -> None:
    run, files, result = trained.run, trained.files, trained.result
    assert run.info.status == "FINISHED"
    report = json.loads(files["data_report.json"])
    assert run.data.tags["data_digest"] == report["data_digest"]
    assert {"code_commit", "lock_digest"} <= set(run.data.tags)
    assert (run.data.tags["seed"], run.data.tags["simulated"]) == ("42", "true")
    assert "simulated" in run.data.tags["mlflow.note.content"]
    assert {(k, str(v)) for k, v in trained.prepared.to_dict().items()} <= set(
        run.data.tags.items()
    )
    params = run.data.params
    assert (params["model"], params["n_estimators"], params["folds"]) == (
        "random_forest",
        "10",
        "3",
    )
    assert (params["samples"], params["blocks"], params["tuned_trials"]) == ("240", "12", "0")
    for name in ("confusion.png", "importance.png", "class_curves.png"):
        assert files[name].startswith(b"\x89PNG")
    assert json.loads(files["config.json"])["model"]["name"] == "random_forest"
    assert set(json.loads(files["importance.json"])) == set(FEATURES)
    assert f"runs:/{result.run_id}/model" in files["model_card.md"].decode()


def test_train_metrics_have_intervals_and_agree_with_the_held_out_predictions(
    trained: Trained,
) -> None:
    metrics, result = trained.run.data.metrics, trained.result
    held_out = pd.read_parquet(io.BytesIO(trained.files["predictions.parquet"]))
    assert list(held_out.columns) == ["x", "y", "block", "class_name", "predicted"]
    right = held_out["class_name"] == held_out["predicted"]
    assert metrics["overall_accuracy"] == pytest.approx(right.mean())
    water = held_out["predicted"] == "water"
    assert metrics["users_accuracy_water"] == pytest.approx(right[water].mean())
    for name in ("overall_accuracy", "macro_f1", "producers_accuracy_forest", "f1_grassland"):
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
        assert result.scores[name][1:] == (metrics[f"{name}_low"], metrics[f"{name}_high"])
    assert metrics["macro_f1_low"] < metrics["macro_f1_high"]
    assert {f"support_{name}" for name in CLASSES} <= set(metrics)
    assert result.at_random["macro_f1"] == metrics["random_macro_f1"]


def test_train_lineage_names_samples_items_and_labels(trained: Trained) -> None:
    inputs = {one.dataset.name: one for one in trained.run.inputs.dataset_inputs}
    assert set(inputs) == {
        "train-once samples (simulated)",
        "train-once items",
        "train-once labels",
    }
    samples = inputs["train-once samples (simulated)"]
    assert samples.dataset.digest == trained.run.data.tags["data_digest"]
    assert json.loads(samples.dataset.source) == {"uri": trained.prepared.samples}
    assert {tag.value for tag in samples.tags} == {"training"}
    assert inputs["train-once items"].dataset.digest == "feed"


def test_train_registers_a_challenger_that_a_map_can_be_made_with(
    trained: Trained, tracked_settings: Settings
) -> None:
    loaded = load_model("models:/train-once@challenger", tracked_settings)
    assert trained.result.model == f"models:/train-once/{loaded.version}"
    assert loaded.info.features == FEATURES
    assert loaded.info.periods == ["2024-04", "2024-05"]
    assert loaded.config == project("train-once")
    info = loaded.info
    assert info.note == "Trained on simulated data, not measured."
    assert info.scores["macro_f1"] == trained.result.scores["macro_f1"][0]
    for key in ("data_digest", "code_commit", "lock_digest"):
        assert getattr(info, key) == trained.run.data.tags[key]


def test_train_result_is_plain_json(trained: Trained) -> None:
    values = trained.result.to_dict()
    assert json.loads(json.dumps(values)) == values


def test_train_says_one_line_and_nothing_of_mlflows_own(
    run_train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    run_train(project("train-quiet", name="lightgbm"), make_samples())
    captured = capfd.readouterr()
    assert captured.out == "lightgbm: 240 samples in 12 blocks, two times 3 folds ...\n"
    assert captured.err == ""


def test_train_twice_gives_the_same_scores_and_only_a_better_model_becomes_champion(
    run_train: Train, tracked_settings: Settings
) -> None:
    one = project("train-twice")
    first, again = (run_train(one, make_samples()) for _ in range(2))
    decisions = [
        consider(tracked_settings, one.name, version, Classification()) for version in ("1", "2")
    ]
    runs = [mlflow.get_run(result.run_id) for result in (first, again)]
    assert runs[0].data.metrics == runs[1].data.metrics
    assert [decision.promoted for decision in decisions] == [True, False]
    assert "Not better beyond chance" in decisions[1].reason
    assert load_model("models:/train-twice@champion", tracked_settings).version == "1"
    assert load_model("models:/train-twice@challenger", tracked_settings).version == "2"


def test_train_tuned_logs_the_trials_and_keeps_the_parameters_that_it_found(
    run_train: Train, tracked_settings: Settings
) -> None:
    one = project("train-tuned", name="lightgbm")
    result = run_train(one, make_samples(), tune=3)
    run = mlflow.get_run(result.run_id)
    assert run.data.params["tuned_trials"] == "3"
    trials = mlflow.search_runs(
        [run.info.experiment_id],
        f"tags.`mlflow.parentRunId` = '{result.run_id}'",
        output_format="list",
    )
    best = max(trial.data.metrics["macro_f1"] for trial in trials)
    assert result.scores["macro_f1"][0] <= best  # which the folds that are scored had no part in
    assert run.data.metrics["corrected_macro_f1"] <= best
    card = mlflow.artifacts.load_text(f"runs:/{result.run_id}/model_card.md")
    assert "best of 3 trials" in card
    found = load_model(result.model, tracked_settings).config.model.parameters
    assert all(run.data.params[key] == str(value) for key, value in found.items())


def test_train_class_name_that_mlflow_refuses_is_changed_in_metrics_only(
    run_train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = make_samples().replace({"class_name": {"water": "water & ice (50 %)"}})
    result = run_train(project("train-names"), samples)
    assert "f1_water _ ice _50 __" in mlflow.get_run(result.run_id).data.metrics
    assert "f1_water & ice (50 %)" in result.scores
    show(OpenProject(Project("any"), project("any"), None), result.to_dict())  # type: ignore[arg-type]
    assert "F1 water & ice (50 %) " in capsys.readouterr().out


def test_train_gap_leaves_neighbours_of_test_pixels_out(
    run_train: Train, tracked_settings: Settings
) -> None:
    """Blocks lie in a row, five columns each: a gap of four leaves one beside a test block."""
    samples = make_samples()
    values = {"folds": 2, "resamples": 200}
    plain, apart = (
        run_train(
            make_project(name="train-gap", validation=values | {"gap_px": gap_px}, model=FOREST),
            samples,
        )
        for gap_px in (0, 4)
    )
    assert plain.scores != apart.scores
    assert mlflow.get_run(apart.run_id).data.params["gap_px"] == "4"
    reasons = [
        consider(tracked_settings, "train-gap", version, Classification()).reason
        for version in ("1", "2")
    ]
    assert "it was tested with a gap of 4 px, the champion with one of 0 px" in reasons[1]
    card = mlflow.artifacts.load_text(f"runs:/{apart.run_id}/model_card.md")
    assert "at most 4 columns and rows from a pixel tested were left out" in card


def test_train_gap_too_wide_is_refused(run_train: Train) -> None:
    values = {"folds": 3, "gap_px": 60}
    wide = make_project(name="train-gap", model={}, validation=values)
    with pytest.raises(DataError, match=r"gap_px 60, a fold has no training sample of"):
        run_train(wide, make_samples())


@pytest.mark.parametrize(
    ("model", "spoil", "error", "expected"),
    [
        ({"name": "lightgbn"}, {}, ConfigError, "nearest are lightgbm"),
        ({"parameters": {"tress": 3}}, {}, ConfigError, "no parameter 'tress'"),
        ({}, {"noise": float("nan")}, DataError, "Feature noise is NaN or infinite in 240 of 240"),
        ({}, {"class_name": ["x"] * 2 + ["y", "z"] * 119}, DataError, "There are 2 samples of x"),
    ],
)
def test_train_bad_input_leaves_no_run(
    run_train: Train,
    model: dict[str, Any],
    spoil: dict[str, Any],
    error: type[Exception],
    expected: str,
) -> None:
    with pytest.raises(error, match=expected):
        run_train(project("train-refused", **model), make_samples().assign(**spoil))
    assert mlflow.get_experiment_by_name("train-refused") is None


def test_train_report_of_other_samples_is_refused(run_train: Train) -> None:
    with pytest.raises(DataError, match="has 4 features, and not the 1 in this order"):
        run_train(project("train-refused"), make_samples(), report={"features": ["ndvi"]})


def test_train_why_comes_first_in_the_note(run_train: Train) -> None:
    result = run_train(project("train-why"), make_samples(), why="Retrained: it drifted.")
    note = mlflow.get_run(result.run_id).data.tags["mlflow.note.content"]
    assert note == "Retrained: it drifted."


def test_train_under_the_same_key_again_registers_nothing_twice(run_train: Train) -> None:
    one = project("train-key")
    first = run_train(one, make_samples(), key="dag/run")
    again = run_train(one, make_samples(), key="dag/run")
    assert again == first
    other = run_train(one, make_samples(), key="dag/other")
    changed = run_train(
        project("train-key", parameters={"n_estimators": 7}), make_samples(), key="dag/run"
    )
    found = mlflow.MlflowClient().search_model_versions("name = 'train-key'")
    assert len(found) == 3
    assert len({first.run_id, other.run_id, changed.run_id}) == 3


def test_train_killed_between_run_and_registration_goes_on_there(
    run_train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = project("train-killed")
    with monkeypatch.context() as patched:
        patched.setattr(tracking, "register", lambda *_, **__: sys.exit("killed"))
        with pytest.raises(SystemExit):
            run_train(one, make_samples(), key="dag/run")
    assert not mlflow.MlflowClient().search_model_versions("name = 'train-killed'")
    result = run_train(one, make_samples(), key="dag/run")
    assert result.model == "models:/train-killed/1"
    experiment = mlflow.get_experiment_by_name("train-killed").experiment_id
    assert len(mlflow.search_runs([experiment], output_format="list")) == 1
