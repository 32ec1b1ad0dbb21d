"""A small area of known classes, a real model of it, and its map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

from area import Area, make_project
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.hooks import Hooks
from terraflow.eo.models.model import LoadedModel, ModelInfo

HEIGHT, WIDTH = 20, 24
CLASSES = ["forest", "water"]
FEATURES = ["red_2024-01", "red_max", "red_std"]
DARK, BRIGHT = 2000, 5000
INFO = {
    "levels": CLASSES,
    "features": FEATURES,
    "periods": ["2024-01"],
    "data_digest": "0123456789abcdef",
    "seed": 42,
    "code_commit": "c0ffee",
    "lock_digest": "10cdeadbeef0",
    "scores": {"overall_accuracy": 0.9375, "macro_f1": 0.875},
    "note": "Trained on simulated data.",
}


def known_classes() -> np.ndarray:
    """Shape (y, x): dark water (2) in the west, bright forest (1) in the east, nodata (0) above."""
    numbers = np.full((HEIGHT, WIDTH), 1, dtype="uint8")
    numbers[:, : WIDTH // 2] = 2
    numbers[:3] = 0
    return numbers


def write_items(area: Area) -> str:
    """Fill the area with two images of `known_classes` and list them: a path."""
    numbers = known_classes()
    red = np.where(numbers == 2, DARK, BRIGHT).astype("uint16")
    for day in ("2024-01-05", "2024-01-25"):
        area.add(day, red, (numbers > 0).astype("uint8"))
    path = area.folder / "items.json"
    features = [item.to_dict(transform_hrefs=False) for item in area.items]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def make_model(project: ProjectConfig | None = None, **changes: Any) -> LoadedModel:
    """Train a forest that tells the two classes apart without doubt."""
    project = project or make_project(map={"colours": {"water": "#0000ff"}})
    dark, bright = DARK * 0.0001 - 0.1, BRIGHT * 0.0001 - 0.1
    rows = [[value, value, 0.0] for value in (bright, dark)] * 10
    forest = RandomForestClassifier(5, random_state=0, n_jobs=1)
    forest.fit(pd.DataFrame(rows, columns=FEATURES), CLASSES * 10)
    info = ModelInfo.model_validate(
        INFO | {"config": project.model_dump(mode="json")} | changes.pop("info", {})
    )
    values: dict[str, Any] = {
        "estimator": forest,
        "info": info,
        "config": project,
        "hooks": Hooks(),
        "uri": "models:/land-cover@champion",
        "run_id": "5" * 32,
        "version": "3",
    }
    return LoadedModel(**values | changes)


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
