from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlflow
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from samples import make_report, make_samples
from terraflow.eo.training.held_out import (
    log_held_out,
    read_data_report,
    read_predictions,
)
from terraflow.errors import DataError
from terraflow.settings import Settings
from terraflow.tracking import runs


def predictions() -> pd.DataFrame:
    samples = make_samples(blocks=2)
    return samples[["x", "y", "block", "class_name"]].assign(predicted="water")


@pytest.fixture
def bare_run(tracked_settings: Settings) -> str:
    """A run that holds nothing."""
    with runs.start_run(tracked_settings, "held-out", name="bare", tags={}) as run:
        pass
    return str(run.info.run_id)


def test_log_held_out_reads_back_predictions_and_label_counts(tracked_settings: Settings) -> None:
    report = make_report(make_samples(), label_counts={"forest": 1234, "rock": 0})
    with runs.start_run(tracked_settings, "held-out", name="train", tags={}) as run:
        log_held_out(predictions(), report)
    assert_frame_equal(read_predictions(run.info.run_id), predictions())
    assert read_data_report(run.info.run_id).label_counts == {"forest": 1234, "rock": 0}
    assert read_data_report(run.info.run_id) == report


@pytest.mark.parametrize(
    ("read", "lacking"),
    [(read_predictions, "predictions.parquet"), (read_data_report, "data_report.json")],
)
def test_read_of_a_run_that_lacks_the_file_names_both(
    read: Callable[[str], Any], lacking: str, bare_run: str
) -> None:
    with pytest.raises(DataError, match=f"Run {bare_run} has no {lacking}: .*`invoke train`"):
        read(bare_run)


def test_read_data_report_of_before_versions_has_its_label_counts(bare_run: str) -> None:
    values = make_report(make_samples()).to_dict()
    values["class_sizes"] = values.pop("label_counts")
    del values["record_version"]
    with mlflow.start_run(bare_run):
        mlflow.log_dict(values, "data_report.json")
    assert read_data_report(bare_run).label_counts == values["class_sizes"]
