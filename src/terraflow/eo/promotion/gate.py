"""Whether a model is better than the champion beyond chance; nothing is changed by asking."""

from __future__ import annotations

from dataclasses import dataclass

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from terraflow.console import command, say, table
from terraflow.eo.built_in import DEFAULT
from terraflow.eo.config.record import Record
from terraflow.eo.models.champion import ALIAS as CHAMPION
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.promotion.comparison import Difference, compare, pair
from terraflow.eo.targets.parts import NotComparableError, measure_name
from terraflow.eo.targets.target import Target
from terraflow.eo.training.held_out import (
    PREDICTIONS,
    REPORT,
    read_data_report,
    read_predictions,
)
from terraflow.eo.training.scores import MIN_BLOCKS
from terraflow.errors import ConfigError
from terraflow.settings import Settings
from terraflow.tracking import registry, runs

__all__ = ["Gated", "Verdict", "find_version", "judge", "show", "step"]


class Verdict(Record):
    """What the gate found of a version; small enough to pass through Airflow.

    Attributes
    ----------
    name, version, run_id : str
        The registered model, the challenger and its run.
    champion, champion_run_id : str
        The version it was compared with and its run; "" where there was none.
    promote : bool
        Whether the challenger should take over.
    reason : str
        Why, in one sentence.
    numbers : dict
        Tags of the version: the paired difference, its interval, pixels and blocks.
    scores : dict
        Measure to its value of challenger and champion, each by its own cross-validation, or, as
        sample_MEASURE, by a probability sample of its own map; None where a run does not tell it.
    """

    name: str
    version: str
    run_id: str
    champion: str = ""
    champion_run_id: str = ""
    promote: bool = False
    reason: str
    numbers: dict[str, str] = {}
    scores: dict[str, tuple[float | None, float | None]] = {}


class Gated(Record):
    """What the step returns; its one key keeps it apart from what `train` returned."""

    verdict: Verdict


@dataclass(frozen=True)
class _Test:
    """What a run tells of its cross-validation."""

    predictions: pd.DataFrame
    simulated: bool
    crs: str
    target: str
    trials: int
    gap_px: int
    label_counts: dict[str, int]


def judge(model_name: str, version: str, target: Target) -> Verdict:
    """Compare a version with the champion, in the registry that MLflow is pointed at.

    Parameters
    ----------
    version : str
        The challenger.

    Raises
    ------
    MlflowException
        MLflow failed; `registry.exclusive` makes a sentence of it.
    """
    challenger = mlflow.MlflowClient().get_model_version(model_name, version)
    champion = registry.find_by_alias(model_name, CHAMPION)
    verdict = Verdict(
        name=model_name,
        version=str(version),
        run_id=str(challenger.run_id or ""),
        champion=str(champion.version) if champion else "",
        champion_run_id=str(champion.run_id or "") if champion else "",
        reason=f"{model_name} had no champion before version {version}.",
        promote=champion is None,
        scores=_scores(challenger, champion, target),
    )
    if champion is None:
        return verdict
    if champion.version == challenger.version:
        reason = f"Version {version} of {model_name} is the champion already."
        return verdict.model_copy(update={"reason": reason})
    both = f"version {version} of {model_name} with the champion, version {champion.version}"
    try:
        new, old = _read_test(challenger), _read_test(champion)
        if old.simulated and not new.simulated:  # whose scores mean nothing
            reason = (
                f"Version {version} of {model_name} was trained on measured data, the champion "
                f"before it, version {champion.version}, on simulated data."
            )
            return verdict.model_copy(update={"reason": reason, "promote": True})
        found = compare(_pair(new, old, target), target, label_counts=new.label_counts)
    except NotComparableError as error:
        promote = command("promote", "--run-id", verdict.run_id)
        reason = f"Can't compare {both}: {error}; `{promote}` promotes it all the same."
        return verdict.model_copy(update={"reason": reason})
    word = "Better" if found.better else "Not better beyond chance"
    word += f" after a search of {new.trials} trials" if new.trials > 1 else ""
    reason = (
        f"{word}, comparing {both}: {measure_name(target.primary)} "
        f"differs by {found.value:+.4f} (95 % interval {found.low:+.4f} to {found.high:+.4f}) on "
        f"{found.pixels} pixels in {found.blocks} blocks that both were tested on"
    )
    if found.left_out:
        reason += f", without {', '.join(found.left_out)}, in fewer than {MIN_BLOCKS} blocks"
    reason += "."
    return verdict.model_copy(
        update={"reason": reason, "promote": found.better, "numbers": _numbers(found)}
    )


def _scores(
    challenger: ModelVersion, champion: ModelVersion | None, target: Target
) -> dict[str, tuple[float | None, float | None]]:
    new = _metrics(challenger)
    old = _metrics(champion) if champion else {}
    names = [runs.metric_name(name) for name in target.headline]
    # what a probability sample of a map told, which `validate` logs with the map's run
    names += [told for name in names if (told := f"sample_{name}") in {*new, *old}]
    return {name: (new.get(name), old.get(name)) for name in names}


def _metrics(version: ModelVersion) -> dict[str, float]:
    run = _find_run(version)
    return dict(run.data.metrics) if run else {}


def _find_run(version: ModelVersion) -> mlflow.entities.Run | None:
    try:
        return mlflow.MlflowClient().get_run(version.run_id or "none")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _read_test(version: ModelVersion) -> _Test:
    run = _find_run(version)
    if run is None:
        raise NotComparableError(f"the run of version {version.version} is gone")
    run_id = run.info.run_id
    logged = {file.path for file in mlflow.MlflowClient().list_artifacts(run_id)}
    if missing := [name for name in (PREDICTIONS, REPORT) if name not in logged]:
        raise NotComparableError(f"the run of version {version.version} has no {missing[0]}")
    report = read_data_report(run_id)
    return _Test(
        read_predictions(run_id),
        simulated=run.data.tags.get("simulated") == "true",
        crs=report.grid["crs"],
        target=run.data.tags.get("target", DEFAULT.name),
        trials=int(run.data.params.get("tuned_trials", 0)),
        gap_px=int(run.data.params.get("gap_px", 0)),
        label_counts=report.label_counts,
    )


def _pair(new: _Test, old: _Test, target: Target) -> pd.DataFrame:
    if new.simulated and not old.simulated:
        raise NotComparableError("it was trained on simulated data, the champion on measured data")
    if new.target != old.target:
        raise NotComparableError(f"its target is {new.target}, the champion's {old.target}")
    if new.crs != old.crs:
        raise NotComparableError(f"its grid is in {new.crs}, the champion's in {old.crs}")
    if new.gap_px != old.gap_px:  # the scores of the narrower one are optimistic
        raise NotComparableError(
            f"it was tested with a gap of {new.gap_px} px, the champion with one of {old.gap_px} px"
        )
    return pair(new.predictions, old.predictions, target)


def _numbers(found: Difference) -> dict[str, str]:
    return {
        "promotion_difference": f"{found.value:.6f}",
        "promotion_difference_low": f"{found.low:.6f}",
        "promotion_difference_high": f"{found.high:.6f}",
        "promotion_pixels": str(found.pixels),
        "promotion_blocks": str(found.blocks),
    }


def find_version(settings: Settings, run_id: str) -> ModelVersion:
    """Find the version that a run registered.

    Raises
    ------
    ConfigError
        There is no such run, or it registered no model.
    ServiceError
        MLflow does not answer.
    """
    runs.find_run(settings, run_id)
    version = registry.find_by_run(run_id)
    if version is None:
        raise ConfigError(
            f"Run {run_id} registered no model version; name a run that "
            f"`{command('train')}` finished."
        )
    return version


def step(project: OpenProject, inputs: Inputs) -> Gated:
    """Compare the model that `run_id` registered with the champion."""
    settings = project.storage.settings
    with registry.connected(settings):
        version = find_version(settings, inputs["run_id"])
        verdict = judge(
            version.name,
            str(version.version),
            project.hooks.target,
        )
    return Gated(verdict=verdict)


def show(project: OpenProject, outputs: Inputs) -> int:
    """Print both models' scores, and the verdict."""
    target = project.hooks.target
    verdict = Verdict.model_validate(outputs["verdict"])
    rows = [
        (target.label(name), *("" if value is None else f"{value:.3f}" for value in values))
        for name, values in verdict.scores.items()
    ]
    old = f"champion {verdict.champion}" if verdict.champion else "no champion"
    table(("score", f"version {verdict.version}", old), rows)
    if "promoted" not in outputs:  # which tells it, too
        say(f"\n{verdict.reason}")
    return 0
