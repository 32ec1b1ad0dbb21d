"""Move the alias `champion`, and write the reason as tags of the versions."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from datetime import UTC, datetime

import mlflow
from mlflow.entities.model_registry import ModelVersion

from terraflow.console import command, say
from terraflow.eo.config.record import Record
from terraflow.eo.models.champion import ALIAS as CHAMPION
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.promotion.gate import Verdict, find_version, judge
from terraflow.eo.targets.target import Target
from terraflow.settings import Settings
from terraflow.tracking import registry

__all__ = [
    "Approval",
    "Decision",
    "Promoted",
    "consider",
    "promote_by_hand",
    "settle",
    "show",
    "step",
]


@dataclass(frozen=True)
class Decision:
    """What became of a version, and why, in one sentence."""

    promoted: bool
    reason: str


class Approval(Record):
    """What a person answered.

    Attributes
    ----------
    approved : bool
    by : str
        Who answered.
    reason : str
        In their words; "" where they gave none.
    """

    approved: bool
    by: str
    reason: str = ""


class Promoted(Record):
    """What the step returns.

    Attributes
    ----------
    name, version : str
        The registered model that was asked about.
    """

    name: str
    version: str
    promoted: bool
    reason: str


def consider(
    settings: Settings,
    model_name: str,
    version: str,
    target: Target,
) -> Decision:
    """Make a version the champion if it is better, and write the reason as its tags either way.

    Parameters
    ----------
    version : str
        The challenger.

    Raises
    ------
    ServiceError, StorageError
        MLflow does not answer, or fails on the way.
    """
    with registry.exclusive(settings):
        return _follow(judge(model_name, version, target))


def settle(
    settings: Settings,
    verdict: Verdict,
    target: Target,
    *,
    approval: Approval | None = None,
) -> Decision:
    """Do what the gate and, if asked, a person said of a version.

    If the champion has changed since the gate looked, the version is compared anew; a person's
    approval was of another comparison then, and does not count. Doing it twice is the same as
    doing it once.

    Raises
    ------
    ServiceError, StorageError
        MLflow does not answer, or fails on the way.
    """
    with registry.exclusive(settings):
        champion = registry.find_by_alias(verdict.name, CHAMPION)
        now = str(champion.version) if champion else ""
        if now in (verdict.champion, verdict.version):
            return _follow(verdict, approval)
        if approval is None:
            name, version = verdict.name, verdict.version
            return _follow(judge(name, version, target))
        again = command("promote", "--run-id", verdict.run_id)
        reason = (
            f"The champion of {verdict.name} changed from version {verdict.champion or 'none'} to "
            f"{now or 'none'} while version {verdict.version} waited for {approval.by}; `{again}` "
            "promotes it all the same."
        )
        return _write(verdict, "not promoted", reason)


def promote_by_hand(settings: Settings, run_id: str) -> Decision:
    """Make the version that a run registered the champion, whatever its scores.

    Raises
    ------
    ConfigError
        There is no such run, or it registered no model.
    ServiceError, StorageError
        MLflow does not answer, or fails on the way.
    """
    with registry.exclusive(settings):
        version = find_version(settings, run_id)
        champion = registry.find_by_alias(version.name, CHAMPION)
        before = str(champion.version) if champion else ""
        if before == str(version.version):
            reason = f"Version {before} of {version.name} is the champion already."
            return Decision(promoted=False, reason=reason)
        reason = (
            f"{_user()} made version {version.version} of {version.name} the champion by hand; "
            f"{f'before it was version {before}' if before else 'there was none before'}."
        )
        asked = _of(version, before, reason)
        return _write(asked, "promoted by hand", reason, promotion_by=_user())


def _of(version: ModelVersion, champion: str, reason: str) -> Verdict:
    return Verdict(
        name=version.name,
        version=str(version.version),
        run_id=str(version.run_id),
        champion=champion,
        reason=reason,
    )


def _follow(verdict: Verdict, approval: Approval | None = None) -> Decision:
    """Promote or not, as the verdict and the approval say."""
    if verdict.champion == verdict.version:
        return Decision(promoted=False, reason=verdict.reason)
    if approval is None:
        state = "promoted" if verdict.promote else "not promoted"
        return _write(verdict, state, verdict.reason, **verdict.numbers)
    words = f": {approval.reason.rstrip('.')}" if approval.reason else ""
    said = "approved" if approval.approved else "rejected"
    reason = f"{approval.by} {said} version {verdict.version}{words}. {verdict.reason}"
    state = "promoted" if approval.approved else "rejected"
    return _write(verdict, state, reason, **verdict.numbers, promotion_by=approval.by)


def _write(verdict: Verdict, state: str, reason: str, **tags: str) -> Decision:
    """Move the alias if the state says so, then write the tags."""
    promoted = state.startswith("promoted")
    version = mlflow.MlflowClient().get_model_version(verdict.name, verdict.version)
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if promoted:
        registry.set_alias(version, CHAMPION)
        if verdict.champion:
            champion = mlflow.MlflowClient().get_model_version(verdict.name, verdict.champion)
            note = {"promotion": f"replaced by version {verdict.version} at {now}"}
            registry.write_tags(champion, note)
    before = {"promotion_champion_before": verdict.champion} if verdict.champion else {}
    told = {"promotion": state, "promotion_reason": reason, "promotion_time": now}
    registry.write_tags(version, told | before | tags)
    return Decision(promoted, reason)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "an unnamed user"


def step(project: OpenProject, inputs: Inputs) -> Promoted:
    """Do what `gate` found; without it, promote the model of `run_id` by hand."""
    settings, config = project.storage.settings, project.config
    if "verdict" not in inputs:
        decision = promote_by_hand(settings, inputs["run_id"])
        version = find_version(settings, inputs["run_id"])
        return _promoted(version.name, str(version.version), decision)
    verdict = Verdict.model_validate(inputs["verdict"])
    approval = inputs.get("approval")
    if config.promotion.approve and verdict.promote and approval is None:
        promote = command("promote", "--run-id", verdict.run_id)
        reason = (
            f"[promotion] approve = true leaves it to a person; `{promote}` promotes it. "
            f"{verdict.reason}"
        )
        with registry.exclusive(settings):
            decision = _write(verdict, "waits for approval", reason, **verdict.numbers)
        return _promoted(verdict.name, verdict.version, decision)
    decision = settle(
        settings,
        verdict,
        project.hooks.target,
        approval=Approval.model_validate(approval) if approval else None,
    )
    return _promoted(verdict.name, verdict.version, decision)


def _promoted(name: str, version: str, decision: Decision) -> Promoted:
    return Promoted(name=name, version=version, promoted=decision.promoted, reason=decision.reason)


def show(project: OpenProject, outputs: Inputs) -> int:
    """Tell what became of it."""
    del project
    say(outputs["reason"] + (" It is the champion now." if outputs["promoted"] else ""))
    return 0
