"""What a run held out: written by `train`, and read by promotion."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from terraflow.console import command
from terraflow.eo.samples.data_report import DataReport
from terraflow.errors import DataError, first_line

__all__ = [
    "PREDICTIONS",
    "REPORT",
    "log_held_out",
    "read_data_report",
    "read_predictions",
]

#: Artifacts of a run.
PREDICTIONS, REPORT = "predictions.parquet", "data_report.json"


def log_held_out(table: pd.DataFrame, report: DataReport) -> None:
    """Log held-out predictions and the data report to the active run.

    Parameters
    ----------
    table : DataFrame
        Columns x, y (in the CRS of the grid), block, the target's own and predicted.
    """
    mlflow.log_dict(report.to_dict(), REPORT)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PREDICTIONS
        table.to_parquet(path, index=False)
        mlflow.log_artifact(str(path))


def read_predictions(run_id: str) -> pd.DataFrame:
    """Read the held-out predictions of a run; raise `DataError` where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        return pd.read_parquet(_download(run_id, PREDICTIONS, folder))


def read_data_report(run_id: str) -> DataReport:
    """Read the data report of a run; raise `DataError` where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        return DataReport.model_validate_json(_download(run_id, REPORT, folder).read_bytes())


def _download(run_id: str, name: str, folder: str) -> Path:
    try:
        path = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=name, dst_path=folder
        )
    except (MlflowException, OSError) as error:
        raise DataError(
            f"Run {run_id} has no {name}: {first_line(error)}; take a run that "
            f"`{command('train')}` made."
        ) from error
    return Path(path)
