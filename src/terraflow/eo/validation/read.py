"""From interpreted points to areas and accuracies, recorded beside the map and with its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from terraflow.console import say
from terraflow.eo.maps.validated import (
    Validation,
    map_digest,
    validation_uri,
    write_validation,
)
from terraflow.eo.project import OpenProject
from terraflow.eo.validation.agreement import Agreement, agree, agree_on_numbers
from terraflow.eo.validation.points import read_points
from terraflow.eo.validation.sample import Sample, read_sample
from terraflow.errors import ConfigError, DataError, first_line
from terraflow.settings import Settings
from terraflow.storage import Storage
from terraflow.tracking import runs

__all__ = ["Interpreted", "estimate", "interpret", "record"]

#: Of a run's metrics that come from a sample of a map.
PREFIX = "sample_"
_SHOWN = 10


@dataclass(frozen=True)
class Interpreted:
    """A sample with what interpreters said of it.

    Attributes
    ----------
    sample : Sample
    map : str
        URI of the map, which has the digest that the sample was drawn from.
    told : DataFrame
        As `points.read_points` gives it.
    agreement : Agreement
    """

    sample: Sample
    map: str
    told: pd.DataFrame
    agreement: Agreement

    @property
    def undecided(self) -> list[int]:
        """Ids of points without a reference, or on which as many interpreters say one as other."""
        reference = self.agreement.reference
        return [int(i) for i in reference.index[reference.isna()]]


def interpret(paths: Sequence[Path], storage: Storage, *, map_uri: str = "") -> Interpreted:
    """Read the points of a sample, and check them against the draw and the map.

    Parameters
    ----------
    paths : sequence of Path
        The points, one file for each interpreter or for all; the draw lies beside the first.
    map_uri : str
        Where the map lies now; by default where it lay at the draw.

    Raises
    ------
    DataError
        The points are not as they were drawn, or the map is another one.
    """
    sample = read_sample(paths[0])
    uri = map_uri or sample.map
    if (digest := map_digest(uri, storage)) != sample.map_digest:
        raise DataError(
            f"The sample of {paths[0]} was drawn from a map with the digest {sample.map_digest}, "
            f"and {uri} has {digest}: it is another map; name the one that was drawn from by "
            "--map, or draw a sample of this one."
        )
    told = read_points(paths, sample)
    return Interpreted(sample, uri, told, agree(told) if sample.levels else agree_on_numbers(told))


def estimate(
    opened: OpenProject, found: Interpreted, *, drop_missing: bool = False
) -> tuple[Validation, pd.DataFrame]:
    """Estimate areas, or a mean, and accuracies of the map.

    Parameters
    ----------
    drop_missing : bool
        Leave out points that nobody could interpret, as if chance had chosen them.

    Returns
    -------
    Validation
    DataFrame
        The points: id, x, y, stratum, mapped, reference, interpreters, note.

    Raises
    ------
    DataError
        Points have no reference, or too few are left in a stratum.
    """
    sample, missing = found.sample, found.undecided
    if missing and not drop_missing:
        shown = ", ".join(map(str, missing[:_SHOWN])) + (", ..." * (len(missing) > _SHOWN))
        raise DataError(
            f"{len(missing)} of {len(sample.points)} points have no reference, or one on which "
            f"interpreters are undecided (id {shown}); fill them in, or leave them out by "
            "--drop-missing, as if chance had chosen them."
        )
    points = _points(found)
    used = points[points["reference"].notna()]
    estimates = opened.hooks.target.estimate(used, sample.strata, sample.levels)
    drawn = points["stratum"].value_counts()
    validation = Validation(
        map=found.map,
        map_digest=sample.map_digest,
        sample_id=sample.id,
        seed=sample.seed,
        points=len(used),
        left_out=len(missing),
        interpreters=found.agreement.interpreters,
        kappa=found.agreement.kappa,
        mean_absolute_difference=found.agreement.mean_absolute_difference,
        disagreements=len(found.agreement.disagreements),
        strata={
            name: each.to_dict() | {"points": int(drawn.get(name, 0))}
            for name, each in sample.strata.items()
        },
        estimates=estimates,
    )
    return validation, points


def _points(found: Interpreted) -> pd.DataFrame:
    drawn = pd.DataFrame([point.to_dict() for point in found.sample.points]).set_index("id")
    told = found.told.groupby("id")
    points = drawn[["x", "y", "stratum", "mapped"]].assign(
        reference=found.agreement.reference,
        interpreters=told["interpreter"].agg(", ".join),
        note=told["note"].agg(lambda notes: "; ".join(filter(None, notes))),
    )
    if "cluster" in found.told:
        points["cluster"] = told["cluster"].first()
        if points["cluster"].isna().any():
            ids = ", ".join(map(str, points.index[points["cluster"].isna()][:_SHOWN]))
            raise DataError(
                f"Some points have a cluster, and others (id {ids}) have none; fill it in for all "
                "of them, or remove the column."
            )
    return points.reset_index()


def record(
    opened: OpenProject, found: Interpreted, validation: Validation, points: pd.DataFrame
) -> list[str]:
    """Write estimates and points beside the map, and log them to the run of its model.

    Returns
    -------
    list of str
        URIs of both files.

    Raises
    ------
    StorageError, ServiceError
        The store can't be written, or MLflow does not answer.
    """
    storage, sample = opened.storage, found.sample
    geometry = gpd.points_from_xy(points["x"], points["y"])
    frame = gpd.GeoDataFrame(points, geometry=geometry, crs=sample.crs)
    with storage.scratch() as folder:
        frame.to_parquet(folder / "points.parquet", index=False)
        uri = validation_uri(found.map, "parquet")
        storage.write(uri, folder / "points.parquet")
    written = [write_validation(validation, storage), uri]
    _log(storage.settings, sample.run_id, validation)
    return written


def _log(settings: Settings, run_id: str, validation: Validation) -> None:
    """Log the estimates to the map's run, which a gate can read them from; say where it is gone."""
    try:
        runs.find_run(settings, run_id)
    except ConfigError as error:
        say(f"Warning: the estimates are not logged to MLflow: {first_line(error)}.")
        return
    client = mlflow.MlflowClient()
    try:
        for name, interval in validation.estimates["measures"].items():
            metric = runs.metric_name(f"{PREFIX}{name}")
            for ending, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                client.log_metric(run_id, f"{metric}{ending}", interval[key])
        client.set_tag(run_id, f"{PREFIX}map", validation.map)
        client.log_dict(run_id, validation.to_dict(), f"validation/{validation.sample_id}.json")
    except MlflowException as error:
        say(f"Warning: the estimates are not logged to run {run_id}: {first_line(error)}.")
