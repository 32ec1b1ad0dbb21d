from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import terraflow
from area import make_project
from learning import make_choice
from samples import FEATURES, make_report, make_samples
from terraflow.eo.hooks import HookRecord
from terraflow.eo.models.model import ModelInfo
from terraflow.eo.samples.preprocess import Prepared
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.parts import Evaluation, Score
from terraflow.eo.training.run_record import (
    Samples,
    Training,
    importance_figure,
    model_info,
    tags,
)

NOTE = "simulated data, not measured"
INPUTS = Prepared(items="i.json", labels="l.gpkg", samples="s", population="p", report="r")


def make(**report: Any) -> Samples:
    table = make_samples()
    return Samples(table, table[FEATURES], make_report(table, **report), INPUTS, Classification())


def training(samples: Samples) -> Training:
    scores = {"overall_accuracy": 0.9, "macro_f1": 0.7, "f1_water": 0.5}
    evaluation = Evaluation(
        levels=["forest", "grassland", "water"],
        scores={name: Score(value, 0.1, 1.0) for name, value in scores.items()},
        at_random={},
        sums=np.zeros((3, 3), int),
        predictions=np.zeros((0, 3)),
        importance={},
    )
    return Training(
        make_project(seed=7), make_choice(), samples, evaluation, HookRecord(features=["a:f"])
    )


def test_samples_pixels_are_columns_and_rows_of_the_grid() -> None:
    samples = make(grid={"crs": "EPSG:32633", "transform": [10, 0, 499_900, 0, -10, 5_100_030],
                         "shape": [9, 90]})  # fmt: skip
    assert samples.pixels[[0, 1, 5, 20]].tolist() == [[10, 3], [11, 3], [10, 4], [15, 3]]
    assert samples.pixels.dtype == np.int64


def test_samples_to_table_holds_features_reference_blocks_and_levels() -> None:
    samples = make()
    table = samples.to_table()
    assert table.features is samples.features
    assert table.reference.equals(samples.table["class_name"])
    assert table.blocks.equals(samples.table["block"])
    assert table.levels == ["forest", "grassland", "water"]
    assert [*samples.strata] == [*samples.table["class_name"]]


@pytest.mark.parametrize(("simulated", "note"), [(True, NOTE), (False, "")])
def test_samples_note_tells_simulated_data(simulated: bool, note: str) -> None:
    assert make(simulated=simulated).note == note


def test_tags_tell_data_target_seed_and_version() -> None:
    record = HookRecord(target="crops.target:Yield")
    found = tags(make_project(seed=7), make(data_digest="da7a"), record)
    uris = {"items": "i.json", "labels": "l.gpkg", "samples": "s", "population": "p", "report": "r"}
    told = {"data_digest": "da7a", "seed": "7", "simulated": "false", "target": record.target,
            "terraflow.version": terraflow.__version__}  # fmt: skip
    assert (uris | told).items() <= found.items()
    assert "mlflow.note.content" not in found


def test_tags_of_simulated_data_say_so_in_the_note() -> None:
    found = tags(make_project(), make(simulated=True), HookRecord())
    assert (found["simulated"], found["target"]) == ("true", "classification")
    assert found["mlflow.note.content"] == "Trained on simulated data, not measured."


def test_model_info_holds_what_a_map_needs_and_the_headline_scores() -> None:
    one = training(make(simulated=True, data_digest="da7a"))
    info = model_info(one)
    assert info.levels == ["forest", "grassland", "water"]
    assert info.features == FEATURES
    assert info.periods == ["2024-04", "2024-05"]
    assert info.config == one.config.model_dump(mode="json")
    assert (info.seed, info.data_digest) == (7, "da7a")
    assert info.scores == {"overall_accuracy": 0.9, "macro_f1": 0.7}
    assert info.note == "Trained on simulated data, not measured."
    assert info.hooks == HookRecord(features=["a:f"])
    assert ModelInfo.model_validate(info.to_metadata()) == info


def test_importance_figure_tells_the_measure_and_that_data_are_simulated() -> None:
    axes = importance_figure({"ndvi": 0.1}, "macro F1", NOTE).axes[0]
    assert NOTE in axes.get_title()
    assert axes.get_xlabel() == "loss of macro F1 when permuted among held-out pixels"


def test_importance_figure_shows_the_greatest_first_and_no_more_than_asked() -> None:
    losses = {f"f{i:02}": i / 100 for i in range(30)}
    axes = importance_figure(losses, "macro F1", "", most=3).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["f29", "f28", "f27"]
    assert [bar.get_width() for bar in axes.patches] == [0.29, 0.28, 0.27]
    assert axes.yaxis_inverted()
    assert "3 of 30 features" in axes.get_title()
