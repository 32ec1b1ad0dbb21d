from __future__ import annotations

import mlflow
import pytest

from terraflow.settings import Settings
from terraflow.tracking import runs as tracking

NAMES = ["Grass & shrub", "water (50 %)", "a/b", "a//b", "a/", "a:b", "a\\b", "Wälder", "plain_1.5"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("f1_Grass & shrub", "f1_Grass _ shrub"),
        ("a//b/", "a__b_"),
        ("Wälder-1.5 m", "Wälder-1.5 m"),
    ],
)
def test_metric_name_keeps_letters_and_replaces_the_rest(name: str, expected: str) -> None:
    assert tracking.metric_name(name) == expected


def test_metric_name_is_what_mlflow_takes(tracked_settings: Settings) -> None:
    metrics = {tracking.metric_name(f"f1_{name}"): 0.5 for name in NAMES}
    with tracking.start_run(tracked_settings, "metric-names", name="names", tags={}) as run:
        mlflow.log_metrics(metrics)
    assert mlflow.get_run(run.info.run_id).data.metrics == metrics


def test_start_run_marks_its_experiment_as_one_of_models(tracked_settings: Settings) -> None:
    for _ in range(2):
        with tracking.start_run(tracked_settings, "kind", name="kind", tags={}):
            pass
    experiment = mlflow.get_experiment_by_name("kind")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
