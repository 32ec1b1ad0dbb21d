"""The model card: what a stranger must know before using a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from terraflow.console import command
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.features.pixel import halo_px
from terraflow.eo.models.choice import ModelChoice
from terraflow.eo.samples.data_report import DataReport
from terraflow.eo.samples.preprocess import Prepared
from terraflow.eo.targets.parts import Card, Evaluation, markdown_table, measure_name
from terraflow.eo.targets.target import Target
from terraflow.eo.training.tuning import Tuning

__all__ = ["SIMULATED_NOTE", "model_card"]

SIMULATED_NOTE = "simulated data, not measured"


def model_card(
    config: ProjectConfig,
    report: DataReport,
    evaluation: Evaluation,
    inputs: Prepared,
    *,
    target: Target,
    choice: ModelChoice,
    used: Mapping[str, int],
    run_id: str,
    provenance: Mapping[str, str],
    tuning: Tuning | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """Write the card in Markdown.

    Parameters
    ----------
    config : ProjectConfig
        As the model was fitted, with tuned parameters.
    used : dict
        Stratum to the number of its samples.
    provenance : dict
        What is known of code_commit, lock_digest and data_digest.
    remarks : sequence of str
        What a user should know of the fitted model.

    References
    ----------
    Mitchell et al. 2019, Model Cards for Model Reporting, doi:10.1145/3287560.3287596.
    """
    card = target.card(evaluation)
    title = config.name.replace("-", " ")
    importance = (
        f"![Importance: loss of {measure_name(target.primary)} where a feature's values are "
        "permuted among held-out pixels](importance.png)"
    )
    parts = [
        f"# Model {title}",
        _simulated(report),
        _purpose(card, report, choice),
        _data(config, report, inputs, target, used),
        _validation(config, target, evaluation, tuning),
        "## Scores\n\n" + card.scores,
        importance,
        _limits(config, report, card, tuning, remarks),
        _use(config, run_id, inputs),
        _provenance(config, run_id, provenance),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _simulated(report: DataReport) -> str:
    if not report.simulated:
        return ""
    return (
        f"> **Trained on {SIMULATED_NOTE}.** The scores below say nothing about any real place; "
        "do not map real images with this model."
    )


def _purpose(card: Card, report: DataReport, choice: ModelChoice) -> str:
    values = ", ".join(f"{key} {value}" for key, value in choice.parameters.items())
    return (
        f"{card.purpose} It takes {len(report.features)} features of the pixel's clear "
        f"observations. The model is {choice.name} ({values or 'with its own defaults'})."
    )


def _data(
    config: ProjectConfig,
    report: DataReport,
    inputs: Prepared,
    target: Target,
    used: Mapping[str, int],
) -> str:
    data, features, grid = config.data, config.features, report.grid
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
        "Items": f"`{inputs.items}`",
        "Reference data": f"{config.labels.source}, kept as `{inputs.labels}`",
        "Features": "; ".join(made),
    }
    if report.labels.told:
        facts["Labels"] = " ".join(report.labels.told).removeprefix("Labels: ")
    shares = ((name, f"{share:.0%}") for name, share in report.clear_share.items())
    counts = ((name, f"{report.label_counts.get(name, 0)}", f"{n}") for name, n in used.items())
    return "\n\n".join(
        [
            "## Data",
            markdown_table(("", ""), facts.items()),
            "Labelled pixels that have all features, and how many of them were used:",
            markdown_table((target.column.removesuffix("_name"), "labelled", "used"), counts),
            *_cut(config, report),
            "Clear observations:",
            markdown_table(("period", "share"), shares),
            f"<details><summary>All {len(report.features)} features</summary>\n\n"
            f"{', '.join(report.features)}\n\n</details>",
        ]
    )


def _population(evaluation: Evaluation) -> str:
    if not evaluation.as_drawn:
        return "All labelled pixels count alike. "
    return (
        "Of some only a part was drawn (see above), so that each sample counts as many labelled "
        "pixels as it stands for; scores of the samples as they were drawn stand beside. "
    )


def _optimism(evaluation: Evaluation, target: Target) -> str:
    """Tell by how much scores of random pixels are too good, if they are."""
    name = target.primary
    gain = evaluation.at_random[name] - evaluation.scores[name].value
    gain = gain if target.greater_is_better else -gain
    if gain > 0:
        return f"Its {measure_name(name)} is better by {gain:.3f}, which is its optimism."
    return (
        f"Its {measure_name(name)} is no better here (by {-gain:.3f} worse): chance, or samples "
        "that lie far apart."
    )


def _cut(config: ProjectConfig, report: DataReport) -> list[str]:
    """Tell what of the labels is not kept whole, where the card says that polygons are."""
    if not (report.in_no_polygon and config.validation.whole_polygons):
        return []
    return [
        f"{report.in_no_polygon} of them lie in no polygon: they are points, or in patches of a "
        "raster that are too large to be kept whole, which blocks cut."
    ]


def _validation(
    config: ProjectConfig, target: Target, evaluation: Evaluation, tuning: Tuning | None
) -> str:
    validation, measure = config.validation, measure_name(target.primary)
    whole = (
        "All pixels of a polygon took the block that holds a point within it, as did those of a "
        "patch of a raster of labels, so that none was in training when another was tested. "
        if validation.whole_polygons
        else "Blocks may cut polygons: of one polygon, pixels in one block may have been in "
        "training when those in another were tested. "
    )
    text = (
        f"## How it was validated\n\nThe area was cut into squares of {validation.block_size_px} "
        f"x {validation.block_size_px} pixels, and these blocks into {validation.folds} folds. "
        "Each fold was predicted by a model fitted on the other folds; the scores are of all "
        f"these held-out predictions together (`predictions.parquet`). {whole}{_gap(config)}The "
        "95 % intervals come from how much each block moves a score, with Student's t for the few "
        f"blocks that do. {_population(evaluation)}"
        "Beside it stands a cross-validation that holds out pixels at random: it tests pixels "
        "beside those it was trained on. "
        f"{_optimism(evaluation, target)} The registered model itself was fitted on all samples."
    )
    if tuning:
        text += (
            f"\n\nThe parameters are the best of {tuning.trials} trials by {measure} on these "
            f"folds, and the best trial's own {measure} of {tuning.best:.3f} is optimistic: it "
            f"becomes {tuning.corrected:.3f} where resampled blocks that had no part in "
            "the choice are scored (doi:10.1007/s10994-018-5714-4). For the scores below, and for "
            "promotion, each half of the folds was predicted with the parameters that were best on "
            "the other half, so that none tests a choice that it took part in. They may still be "
            "somewhat optimistic, because trials were proposed by scores of all folds, and scored "
            "on the other half by models that had seen this one."
        )
    return text


def _gap(config: ProjectConfig) -> str:
    gap, reach = config.validation.gap_px, halo_px(config.features)
    text = (
        f"Training pixels at most {gap} columns and rows from a pixel tested were left out. "
        if gap
        else "Training pixels beside a pixel tested, across the edge of a block, were kept. "
    )
    if reach > gap:
        text += (
            f"Neighbourhood features reach {reach} pixels, farther than this gap of {gap}, so that "
            "some training pixels' features hold values of pixels tested, which makes scores "
            "optimistic; [validation] gap_px widens the gap. "
        )
    return text


def _limits(
    config: ProjectConfig,
    report: DataReport,
    card: Card,
    tuning: Tuning | None,
    remarks: Sequence[str],
) -> str:
    data = config.data
    points = [
        f"Places outside the area, images other than of {data.start or 'open'} to "
        f"{data.end or 'open'}, and other sensors: none was tested. `{command('monitor')}` tells "
        "how far new images are from the training data.",
        *card.limits,
        *remarks,
        "Errors of the reference data count as errors of the model, and the model learns them.",
        "Spatial autocorrelation over more than a block makes scores optimistic.",
    ]
    if len(report.periods) > 1:
        points.append("Where a period had no clear observation, neighbouring periods stand in.")
    if tuning:
        points.append("The intervals do not hold the uncertainty of the search for parameters.")
    return "## What it was not tested on, and other limits\n\n" + "\n".join(
        f"- {point}" for point in points
    )


def _use(config: ProjectConfig, run_id: str, inputs: Prepared) -> str:
    return f"""## Use

Map images, or serve the model, with the stack running (`{command("up")}`):

```bash
{command("map", "--model", f"runs:/{run_id}/model", "--items", inputs.items)}
{command("serve", "--run-id", run_id)}
```

Or ask it by a table that has the features above as columns and a row for each pixel:

```python
mlflow.pyfunc.load_model("runs:/{run_id}/model").predict(table)
```

`models:/{config.name}@champion` names the version that promotion chose, which may be another."""


def _provenance(config: ProjectConfig, run_id: str, provenance: Mapping[str, str]) -> str:
    facts = {
        "Run": run_id,
        "Code commit": provenance.get("code_commit", "unknown"),
        "Digest of requirements.lock": provenance.get("lock_digest", "unknown"),
        "Data digest": provenance.get("data_digest", "unknown"),
        "Seed": str(config.seed),
        "Configuration": "config.json of the run",
    }
    return "## Provenance\n\n" + markdown_table(("", ""), facts.items())


def _percentile(percentile: float) -> str:
    return "median" if percentile == 50 else f"percentile {percentile:g}"
