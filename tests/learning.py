"""What a training takes: models by name, and tables of samples."""

from __future__ import annotations

from typing import Any

import pandas as pd

from samples import FEATURES
from terraflow.eo.config.sections import Model
from terraflow.eo.models.choice import ModelChoice, choose_model
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.training.cross_validation import Table

#: Parameters with which each built-in model is fitted in no time.
SMALL: dict[str, dict[str, object]] = {
    "random_forest": {"n_estimators": 10},
    "lightgbm": {"n_estimators": 10},
    "mlp": {"hidden_layer_sizes": [5], "max_iter": 50},
}


def make_choice(name: str = "random_forest", *, seed: int = 42, **parameters: Any) -> ModelChoice:
    """Look up a built-in model."""
    return choose_model(Model(name=name, parameters=parameters), {}, seed=seed)


def make_table(
    samples: pd.DataFrame,
    *,
    features: pd.DataFrame | None = None,
    classes: pd.Series | None = None,
    blocks: pd.Series | None = None,
) -> Table:
    """Make samples ready to be learnt from; some of their columns may be replaced."""
    target = Classification()
    reference = samples["class_name"] if classes is None else classes
    return Table(
        samples[FEATURES] if features is None else features,
        reference,
        samples["block"] if blocks is None else blocks,
        target,
        target.levels(reference),
    )
