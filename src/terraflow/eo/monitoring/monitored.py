"""What monitoring measured, and how it is told."""

from __future__ import annotations

from typing import Any

from terraflow.console import say, table
from terraflow.eo.config.record import Record
from terraflow.eo.monitoring.drift import Drift
from terraflow.eo.project import Inputs, OpenProject

__all__ = ["DRIFTED", "STABLE", "Monitored", "show"]

#: Exit codes; 1 and 2 are errors.
STABLE, DRIFTED = 0, 3
_SHOWN = 5


class Monitored(Record):
    """What a user is told; small enough to pass through Airflow.

    Attributes
    ----------
    run_id, url : str
        The MLflow run that holds all figures.
    pixels : int
        Number of pixels of the new items.
    psi, outside_per_feature, outside_range
        As in `Drift`.
    predicted : dict
        What the model maps, as `Target.summarise` tells, of training and of new pixels; empty
        where the items are too far from a period of the model for a map.
    max_psi, max_outside_range : float
        Thresholds.
    month : str
        Whose scenes they are, as 2024-05; "" for all of the items.
    left_out : list of str
        Features that were not compared: the items lie in other periods than theirs, or they are
        statistics over other dates than the training's.
    periods : list of str
        Periods that were compared.
    resembles : dict
        Of these, the ones that look like another period of the training, and which.
    known : bool
        Whether it was measured before, for another order.
    """

    run_id: str
    url: str
    model: str
    items: str
    pixels: int
    psi: dict[str, float]
    outside_per_feature: dict[str, float]
    outside_range: float
    predicted: dict[str, tuple[float, float]]
    max_psi: float
    max_outside_range: float
    month: str = ""
    left_out: list[str] = []
    periods: list[str] = []
    resembles: dict[str, str] = {}
    known: bool = False

    @property
    def drift(self) -> Drift:
        """The measures."""
        return Drift(self.psi, self.outside_per_feature, self.outside_range)

    @property
    def drifted(self) -> bool:
        """Whether a threshold is exceeded, or images look like those of another period."""
        return (
            max(self.psi.values()) > self.max_psi
            or self.outside_range > self.max_outside_range
            or bool(self.resembles)
        )

    @property
    def exit_code(self) -> int:
        """0 if stable, 3 if drifted."""
        return DRIFTED if self.drifted else STABLE

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, whether it drifted, and whether that is news."""
        worst = self.drift.ranked[0]
        of = f" of {self.month}" if self.month else ""
        psi = f"{self.psi[worst]:.3f} ({worst}, threshold {self.max_psi:g})"
        outside = f"{self.outside_range:.1%} of pixels outside the training's range (threshold "
        why = (
            f"The images{of} have drifted from what {self.model} was trained on: greatest PSI "
            f"{psi}, {outside}{self.max_outside_range:.1%}){self._season()}; {self.url}"
        )
        new = self.drifted and not self.known
        return super().to_dict() | {"drifted": self.drifted, "new_drift": new, "why": why}

    def _season(self) -> str:
        """Name the periods that look like others."""
        return "".join(
            f", and the images of {period} look like {other} of the training"
            for period, other in self.resembles.items()
        )


def show(project: OpenProject, outputs: Inputs) -> int:
    """Print the measures with the features that changed most; return 3 if there is drift."""
    result, target = Monitored.model_validate(outputs), project.hooks.target
    say(f"{result.pixels} pixels of {result.items}, against the training of {result.model}\n")
    drift = result.drift
    worst = drift.ranked[:_SHOWN]
    table(
        ("feature", "PSI", "outside range"),
        [(n, f"{drift.psi[n]:.3f}", f"{drift.outside_per_feature[n]:.1%}") for n in worst],
    )
    if result.periods:
        say(f"Compared are the periods {', '.join(result.periods)}")
    if result.left_out:
        say(
            f"{len(result.left_out)} features are not compared: no image lies in their periods, or "
            "they are statistics over other dates than those of the training"
        )
    if (rest := len(drift.psi) - len(worst)) > 0:
        say(f"... and {rest} features more, which changed less")
    say()
    if result.predicted:
        table(
            ("predicted", "training", "new"),
            [
                (name, *(format(v, target.summary_format) for v in values))
                for name, values in result.predicted.items()
            ],
        )
    for period, other in result.resembles.items():
        say(f"The images of {period} look like {other} of the training: are they out of season?")
    say(
        f"\nGreatest PSI {drift.psi[worst[0]]:.3f} (threshold {result.max_psi:g}); any feature "
        f"outside the training's range at {drift.outside_range:.1%} of pixels (threshold "
        f"{result.max_outside_range:.1%})"
    )
    say(
        "Drifted: look at the map of these items before trusting it, or train with newer labels."
        if result.drifted
        else "Stable."
    )
    say(result.url)
    return result.exit_code
