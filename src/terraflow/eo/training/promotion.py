"""Champion and challenger: a new model takes over only if it is better beyond chance."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from terraflow.console import command, say
from terraflow.eo.built_in import DEFAULT
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.targets.parts import NotComparableError, measure_name
from terraflow.eo.targets.target import Target
from terraflow.eo.training.comparison import Difference, compare, pair
from terraflow.eo.training.held_out import (
    PREDICTIONS,
    REPORT,
    read_data_report,
    read_predictions,
)
from terraflow.errors import ConfigError
from terraflow.settings import Settings
from terraflow.tracking import registry, runs

__all__ = [
    "CHAMPION",
    "Decision",
    "consider",
    "decide",
    "override",
    "promote_by_hand",
    "show",
    "step",
]

CHAMPION = "champion"


@dataclass(frozen=True)
class Decision:
    """What became of a version, and why, in one sentence."""

    promoted: bool
    reason: str


@dataclass(frozen=True)
class _Test:
    """What a run tells of its cross-validation."""

    predictions: pd.DataFrame
    simulated: bool
    crs: str
    target: str
    trials: int
    gap_px: int


def consider(
    settings: Settings,
    model_name: str,
    version: str,
    target: Target,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Decision:
    """Make a version the champion if it is better, and write the reason as its tags either way.

    Parameters
    ----------
    version : str
        The challenger.
    resamples, seed : int
        As in `comparison.compare`.

    Raises
    ------
    ServiceError, StorageError
        MLflow does not answer, or fails on the way.
    """
    with registry.exclusive(settings):
        return decide(model_name, version, target, resamples=resamples, seed=seed)


def decide(model_name: str, version: str, target: Target, *, resamples: int, seed: int) -> Decision:
    """Do what `consider` does, in the registry that MLflow is pointed at."""
    challenger = mlflow.MlflowClient().get_model_version(model_name, version)
    champion = registry.find_by_alias(model_name, CHAMPION)
    if champion is None:
        reason = f"{model_name} had no champion before version {version}."
        return _settle(challenger, None, "promoted", reason)
    if champion.version == challenger.version:
        return _already(champion)
    both = f"version {version} of {model_name} with the champion, version {champion.version}"
    try:
        new, old = _read_test(challenger), _read_test(champion)
        if old.simulated and not new.simulated:  # whose scores mean nothing
            reason = (
                f"Version {version} of {model_name} was trained on measured data, the champion "
                f"before it, version {champion.version}, on simulated data."
            )
            return _settle(challenger, champion, "promoted", reason)
        found = compare(_pair(new, old, target), target, resamples=resamples, seed=seed)
    except NotComparableError as error:
        promote = command("promote", "--run-id", str(challenger.run_id))
        reason = f"Can't compare {both}: {error}; `{promote}` promotes it all the same."
        return _settle(challenger, champion, "not promoted", reason)
    verdict = "Better" if found.better else "Not better beyond chance"
    verdict += f" after a search of {new.trials} trials" if new.trials > 1 else ""
    reason = (
        f"{verdict}, comparing {both}: {measure_name(target.primary)} "
        f"differs by {found.value:+.4f} (95 % interval {found.low:+.4f} to {found.high:+.4f}) on "
        f"{found.pixels} pixels in {found.blocks} blocks that both were tested on."
    )
    state = "promoted" if found.better else "not promoted"
    return _settle(challenger, champion, state, reason, **_numbers(found))


def promote_by_hand(settings: Settings, run_id: str) -> Decision:
    """Make the version that a run registered the champion, whatever its scores.

    Raises
    ------
    ConfigError
        There is no such run, or it registered no model.
    ServiceError, StorageError
        MLflow does not answer, or fails on the way.
    """
    runs.find_run(settings, run_id)
    with registry.exclusive(settings):
        return override(run_id)


def override(run_id: str) -> Decision:
    """Do what `promote_by_hand` does, in the registry that MLflow is pointed at."""
    version = registry.find_by_run(run_id)
    if version is None:
        raise ConfigError(
            f"Run {run_id} registered no model version; name a run that "
            f"`{command('train')}` finished."
        )
    champion = registry.find_by_alias(version.name, CHAMPION)
    if champion is not None and champion.version == version.version:
        return _already(champion)
    reason = (
        f"{_user()} made version {version.version} of {version.name} the champion by hand; "
        f"{f'before it was version {champion.version}' if champion else 'there was none before'}."
    )
    return _settle(version, champion, "promoted by hand", reason, promotion_by=_user())


def _read_test(version: ModelVersion) -> _Test:
    client = mlflow.MlflowClient()
    run_id = version.run_id or "none"
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise NotComparableError(f"the run of version {version.version} is gone") from error
    logged = {file.path for file in client.list_artifacts(run_id)}
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


def _already(champion: ModelVersion) -> Decision:
    reason = f"Version {champion.version} of {champion.name} is the champion already."
    return Decision(promoted=False, reason=reason)


def _numbers(found: Difference) -> dict[str, str]:
    return {
        "promotion_difference": f"{found.value:.6f}",
        "promotion_difference_low": f"{found.low:.6f}",
        "promotion_difference_high": f"{found.high:.6f}",
        "promotion_pixels": str(found.pixels),
        "promotion_blocks": str(found.blocks),
    }


def _settle(
    version: ModelVersion, champion: ModelVersion | None, state: str, reason: str, **tags: str
) -> Decision:
    """Move the alias if the state says so, then write the tags."""
    promoted = state != "not promoted"
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if promoted:
        registry.set_alias(version, CHAMPION)
        if champion is not None:
            note = {"promotion": f"replaced by version {version.version} at {now}"}
            registry.write_tags(champion, note)
    before = {"promotion_champion_before": str(champion.version)} if champion else {}
    told = {"promotion": state, "promotion_reason": reason, "promotion_time": now}
    registry.write_tags(version, told | before | tags)
    return Decision(promoted, reason)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "an unnamed user"


def step(project: OpenProject, inputs: Inputs) -> dict[str, Any]:
    """Promote the model of `run_id` by hand."""
    decision = promote_by_hand(project.storage.settings, inputs["run_id"])
    return {"promoted": decision.promoted, "reason": decision.reason}


def show(project: OpenProject, outputs: Inputs) -> int:
    """Tell what became of it."""
    del project
    say(outputs["reason"])
    return 0
