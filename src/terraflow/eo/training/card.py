"""The model card: what a stranger must know before using a model."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.features.pixel import halo_px
from terraflow.eo.models.estimators import parameters
from terraflow.eo.training.cross_validation import Scores
from terraflow.eo.training.scores import Score
from terraflow.eo.training.tuning import Tuning

__all__ = ["SIMULATED_NOTE", "model_card"]

SIMULATED_NOTE = "simulated data, not measured"
_CONFUSIONS = 3


def model_card(
    project: ProjectConfig,
    report: Mapping[str, Any],
    scores: Scores,
    inputs: Mapping[str, str],
    *,
    run_id: str,
    provenance: Mapping[str, str],
    tuning: Tuning | None = None,
) -> str:
    """Write the card in Markdown.

    Parameters
    ----------
    project : ProjectConfig
        As the model was fitted, with tuned parameters.
    report : dict
        The data report of `preprocess`.
    inputs : dict
        URIs: items, labels, samples.
    provenance : dict
        What is known of code_commit, lock_digest and data_digest.

    References
    ----------
    Mitchell et al. 2019, Model Cards for Model Reporting, doi:10.1145/3287560.3287596.
    """
    parts = [
        f"# Land cover model {project.name}",
        _simulated(report),
        _purpose(project, report, scores),
        _data(project, report, scores, inputs),
        _validation(project, tuning),
        _scores(scores),
        _limits(project, report, tuning),
        _use(project, run_id, inputs),
        _provenance(project, run_id, provenance),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _simulated(report: Mapping[str, Any]) -> str:
    if not report["simulated"]:
        return ""
    return (
        f"> **Trained on {SIMULATED_NOTE}.** The scores below say nothing about any real place; "
        "do not map real images with this model."
    )


def _purpose(project: ProjectConfig, report: Mapping[str, Any], scores: Scores) -> str:
    values = ", ".join(f"{key} {value}" for key, value in parameters(project).items())
    return (
        f"It gives each pixel one of {len(scores.classes)} classes ({', '.join(scores.classes)}) "
        f"from {len(report['features'])} features of the pixel's clear observations. The "
        f"classifier is {project.model.name} ({values})."
    )


def _data(
    project: ProjectConfig, report: Mapping[str, Any], scores: Scores, inputs: Mapping[str, str]
) -> str:
    data, features, grid = project.data, project.features, report["grid"]
    rows, columns = grid["shape"]
    a, b, west, d, e, north = grid["transform"][:6]
    east, south = west + columns * a + rows * b, north + columns * d + rows * e
    made = [f"composites by {features.composites} ({_percentile(features.percentile)})"]
    made += [", ".join(features.statistics) + " over time"] if features.statistics else []
    made += ["indices " + ", ".join(features.indices)] if features.indices else []
    sides = ", ".join(map(str, features.neighbourhood))
    made += [f"mean and standard deviation over {sides} pixels square"] if sides else []
    made += ["layers " + ", ".join(sorted(features.layers))] if features.layers else []
    facts = {
        "Images": data.files or f"{data.catalogue} {data.collection}".strip(),
        "Dates": f"{data.start or 'open'} to {data.end or 'open'}",
        "Bands": ", ".join(f"{name} ({key})" for name, key in data.bands.items()),
        "Area": f"west {west:.10g}, south {south:.10g}, east {east:.10g}, north {north:.10g} "
        f"in {grid['crs'] if len(grid['crs']) < 20 else 'the CRS that data_report.json gives'}",
        "Grid": f"{columns} x {rows} pixels of {abs(a):.10g} x {abs(e):.10g} units of the CRS",
        "Items": f"`{inputs['items']}`",
        "Reference data": f"{project.labels.source}, kept as `{inputs['labels']}`",
        "Features": "; ".join(made),
    }
    shares = ((name, f"{share:.0%}") for name, share in report["clear_share"].items())
    used = scores.matrix.sum(axis=1)
    sizes = (
        (name, f"{report['class_sizes'].get(name, 0)}", f"{count}")
        for name, count in zip(scores.classes, used, strict=True)
    )
    return "\n\n".join([
        "## Data",
        _table(("", ""), facts.items()),
        "Labelled pixels that have all features, and how many of them were used:",
        _table(("class", "labelled", "used"), sizes),
        "Clear observations:",
        _table(("period", "share"), shares),
        f"<details><summary>All {len(report['features'])} features</summary>\n\n"
        f"{', '.join(report['features'])}\n\n</details>",
    ])  # fmt: skip


def _validation(project: ProjectConfig, tuning: Tuning | None) -> str:
    validation = project.validation
    whole = (
        "All pixels of a polygon took the block that holds a point within it, so that none was in "
        "training when another was tested. "
        if validation.whole_polygons
        else "Blocks may cut polygons: of one polygon, pixels in one block may have been in "
        "training when those in another were tested. "
    )
    text = (
        f"## How it was validated\n\nThe area was cut into squares of {validation.block_size_px} "
        f"x {validation.block_size_px} pixels, and these blocks into {validation.folds} folds. "
        "Each fold was predicted by a model fitted on the other folds; the scores are of all "
        f"these held-out predictions together (`predictions.parquet`). {whole}{_gap(project)}The "
        f"95 % intervals come from {validation.resamples} resamples of blocks. Beside it stands a "
        "cross-validation that draws pixels at random: it tests pixels beside those it was "
        "trained on, and the difference is its optimism. The registered model itself was fitted "
        "on all samples."
    )
    if tuning:
        text += (
            f"\n\nThe parameters are the best of {tuning.trials} trials by macro F1 on these "
            f"folds, and the best trial's own macro F1 of {tuning.macro_f1:.3f} is too good: it "
            f"becomes {tuning.corrected_macro_f1:.3f} where resampled blocks that had no part in "
            "the choice are scored (doi:10.1007/s10994-018-5714-4). For the scores below, and for "
            "promotion, each half of the folds was predicted with the parameters that were best on "
            "the other half, so that none tests a choice that it took part in. They may still be "
            "somewhat too good, because trials were proposed by scores of all folds, and scored on "
            "the other half by models that had seen this one."
        )
    return text


def _gap(project: ProjectConfig) -> str:
    gap, reach = project.validation.gap_px, halo_px(project.features)
    text = (
        f"Training pixels at most {gap} columns and rows from a pixel tested were left out. "
        if gap
        else "Training pixels beside a pixel tested, across the edge of a block, were kept. "
    )
    if reach > gap:
        text += (
            f"Neighbourhood features reach {reach} pixels, farther than this gap of {gap}, so that "
            "some training pixels' features hold values of pixels tested, which makes scores too "
            "good; [validation] gap_px widens the gap. "
        )
    return text


def _scores(scores: Scores) -> str:
    whole = [
        ("overall accuracy", scores.overall_accuracy, scores.random_overall_accuracy),
        ("macro F1", scores.macro_f1, scores.random_macro_f1),
    ]
    keys = ("users_accuracy", "producers_accuracy", "f1")
    classes = (
        (name, *(_interval(row[key]) for key in keys)) for name, row in scores.per_class.items()
    )
    return "\n\n".join([
        "## Scores",
        _table(
            ("", "spatial blocks (95 % interval)", "at random"),
            ((name, _interval(score), f"{random:.3f}") for name, score, random in whole),
        ),
        _table(("class", "user's accuracy", "producer's accuracy", "F1"), classes),
        _confusions(scores),
        "![Confusion matrix](confusion.png)",
        "![User's over producer's accuracy of each class](class_curves.png)",
        "![Importance: loss of macro F1 where a feature's values are permuted among held-out "
        "pixels](importance.png)",
    ])  # fmt: skip


def _confusions(scores: Scores) -> str:
    wrong = scores.matrix - np.diag(np.diag(scores.matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    places = [np.unravel_index(place, wrong.shape) for place in order if wrong.flat[place]]
    told = [
        f"{wrong[i, j]} of {scores.matrix[i].sum()} pixels of {scores.classes[i]} were taken for "
        f"{scores.classes[j]}"
        for i, j in places
    ]
    return f"Most often confused: {'; '.join(told)}." if told else "No held-out pixel was wrong."


def _limits(project: ProjectConfig, report: Mapping[str, Any], tuning: Tuning | None) -> str:
    data = project.data
    points = [
        f"Places outside the area, images other than of {data.start or 'open'} to "
        f"{data.end or 'open'}, and other sensors: none was tested. `invoke monitor` tells how "
        "far new images are from the training data.",
        "A land cover that is none of the classes gets one of them all the same.",
        "Scores hold for the labelled pixels, whose class shares are not the area's; `invoke "
        "report` estimates areas and their intervals.",
        "Errors of the reference data count as errors of the model, and the model learns them.",
        "Pixels whose likeness reaches farther than a block still make scores too good.",
    ]
    if len(report["periods"]) > 1:
        points.append("Where a period had no clear observation, neighbouring periods stand in.")
    if tuning:
        points.append("The intervals do not hold the uncertainty of the search for parameters.")
    return "## What it was not tested on, and other limits\n\n" + "\n".join(
        f"- {point}" for point in points
    )


def _use(project: ProjectConfig, run_id: str, inputs: Mapping[str, str]) -> str:
    return f"""## Use

Map images, or serve the model, with the stack running (`invoke up`):

```bash
invoke map --model runs:/{run_id}/model --items {shlex.quote(inputs["items"])}
invoke serve --run-id {run_id}
```

Or ask it for class names, a row a pixel with the features above as columns:

```python
mlflow.pyfunc.load_model("runs:/{run_id}/model").predict(table)
```

`models:/{project.name}@champion` names the version that promotion chose, which may be another."""


def _provenance(project: ProjectConfig, run_id: str, provenance: Mapping[str, str]) -> str:
    facts = {
        "Run": run_id,
        "Code commit": provenance.get("code_commit", "unknown"),
        "Digest of requirements.lock": provenance.get("lock_digest", "unknown"),
        "Data digest": provenance.get("data_digest", "unknown"),
        "Seed": str(project.seed),
        "Configuration": "config.json of the run",
    }
    return "## Provenance\n\n" + _table(("", ""), facts.items())


def _percentile(percentile: float) -> str:
    return "median" if percentile == 50 else f"percentile {percentile:g}"


def _interval(score: Score) -> str:
    return f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )
