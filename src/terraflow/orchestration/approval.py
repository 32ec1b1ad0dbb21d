"""A person between gate and promotion, where the project asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param

if TYPE_CHECKING:
    from airflow.sdk import Context

    from terraflow.eo.project import OpenProject
    from terraflow.eo.promotion.gate import Verdict

__all__ = ["APPROVE", "REJECT", "ApprovePromotion"]

APPROVE, REJECT = "Approve", "Reject"


class ApprovePromotion(HITLOperator):
    """Ask a person whether the model that the gate let through may become the champion.

    It asks only where [promotion] approve = true, and returns at once otherwise. What the task
    before returned, it passes on with the answer.

    Parameters
    ----------
    task_id : str
    """

    ui_color = "#f0e8dc"

    def __init__(self, *, task_id: str = "approve", **options: Any) -> None:
        text = ["null", "string"]  # it may stay empty
        reason = Param(None, type=text, title="Why", description="Goes into the version's tags.")
        # no time limit, since a person may take days
        options |= {"params": {"reason": reason}, "execution_timeout": None}
        super().__init__(
            task_id=task_id,
            subject="Shall this model become the champion?",
            options=[APPROVE, REJECT],
            **options,
        )

    def execute(self, context: Context) -> Any:
        """Write the page and wait, or go on at once."""
        gated = self._gated(context)
        if not gated["verdict"]["promote"]:  # before seconds of imports
            return gated
        from terraflow.eo.promotion.gate import Verdict
        from terraflow.orchestration.operators import open_with

        verdict = Verdict.model_validate(gated["verdict"])
        project = open_with(dict(context["params"]))
        if not project.config.promotion.approve:
            return gated
        self.subject = f"Shall version {verdict.version} of {verdict.name} become the champion?"
        self.body = page(verdict, project)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Pass on what the gate found, with what the person said."""
        answer = super().execute_complete(context, event)
        user = answer.get("responded_by_user") or {}
        approval = {
            "approved": answer["chosen_options"] == [APPROVE],
            "by": user.get("name") or user.get("id") or "a person",
            "reason": (answer.get("params_input") or {}).get("reason") or "",
        }
        return self._gated(context) | {"approval": approval}

    def _gated(self, context: Context) -> dict[str, Any]:
        (gate,) = self.upstream_task_ids
        return dict(context["ti"].xcom_pull(task_ids=gate))


def page(verdict: Verdict, project: OpenProject) -> str:
    """Write what a person needs to decide, as Markdown: scores, difference, links."""
    from terraflow.tracking import runs

    settings, target = project.storage.settings, project.hooks.target
    links = [
        f"[version {version}]({runs.find_run_url(settings, run_id)})"
        for version, run_id in (
            (verdict.version, verdict.run_id),
            (verdict.champion, verdict.champion_run_id),
        )
        if version
    ]
    rows = [
        f"| {target.label(name)} | {_number(new)} | {_number(old)} |"
        for name, (new, old) in verdict.scores.items()
    ]
    champion = f"champion, version {verdict.champion}" if verdict.champion else "no champion yet"
    return "\n".join(
        [
            verdict.reason,
            "",
            f"| cross-validation | challenger, version {verdict.version} | {champion} |",
            "| --- | --- | --- |",
            *rows,
            "",
            "Each model's scores come from its own data; the difference above from the pixels "
            "that both were tested on.",
            "",
            f"Runs in MLflow: {', '.join(links)}",
        ]
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
