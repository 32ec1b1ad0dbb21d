"""From items and labels to samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import pandas as pd

from terraflow.console import say, table
from terraflow.eo.config.imagery import SIMULATED
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.features.indices import check_indices
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.hooks import Hooks
from terraflow.eo.images.collection import Images, read_items
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.samples.data_report import DataReport, Tally, check_data
from terraflow.eo.samples.digest import samples_digest
from terraflow.eo.samples.draw import NOT_FEATURES, to_geo
from terraflow.eo.samples.look import Look, Sampled
from terraflow.eo.targets.target import Target
from terraflow.eo.targets.vectors.account import LabelAccount, account_of
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage, join

__all__ = ["Prepared", "check", "preprocess", "read_report", "show", "step"]


class Prepared(Images):
    """What `preprocess` returns, beside what `ingest` did.

    Attributes
    ----------
    samples : str
        URI of a GeoParquet with columns x, y (in the grid's CRS), block, polygon (-1 is none), the
        target's column and the features (float32).
    population : str
        URI of a GeoParquet with x, y and features of random pixels of the whole area.
    report : str
        URI of a `DataReport` as JSON.
    """

    samples: str
    population: str
    report: str


def preprocess(config: ProjectConfig, hooks: Hooks, images: Images, storage: Storage) -> Prepared:
    """Write samples, and a report of the data, into the store, unless they are there.

    Raises
    ------
    DataError
        Assets or labels do not fit the configuration, no pixel is clear, or the data do not pass
        the checks.
    ConfigError
        An index is unknown or lacks its bands, or a feature function is wrong.
    StorageError
        The store can't be read or written.
    """
    items = read_items(images.items, storage)
    key = samples_digest(config, hooks, items, images.labels, storage)
    root = join(storage.settings.data_uri, config.name, "samples", key)
    result = Prepared(
        items=images.items,
        labels=images.labels,
        samples=join(root, "samples.parquet"),
        population=join(root, "population.parquet"),
        report=join(root, "report.json"),
    )
    if storage.exists(result.report):  # it is written last
        return result
    source = FeatureSource(items, FeatureRecipe.of(config, hooks.features), storage)
    _check_names(source.names, hooks.target)
    labels = hooks.target.read_labels(images.labels, config.labels, source.geobox, storage)
    look = Look(config, hooks.target, source, labels)
    # labels that reach the grid may all lie beyond the polygons of an area
    expected = labels.expected if source.area is None else []
    sampled = Sampled(config, label_counts=dict.fromkeys(expected, 0))
    for _, seen in source.over_windows(look.at, "preprocess"):
        sampled.add(seen)
    samples, population = sampled.samples(labels, source.geobox), sampled.population.result()
    _check_samples(samples, look, sampled.tally)
    check_data(sampled.tally, sampled.label_counts, config.checks, config.features)
    with storage.scratch() as folder:
        paths = {name: folder / f"{name}.parquet" for name in ("samples", "population")}
        to_geo(samples, source.geobox).to_parquet(paths["samples"], index=False)
        to_geo(population, source.geobox).to_parquet(paths["population"], index=False)
        digest = hashlib.sha256(paths["samples"].read_bytes()).hexdigest()[:16]
        storage.write(result.samples, paths["samples"])
        storage.write(result.population, paths["population"])
    counts = _in_order(sampled.label_counts, hooks.target)
    report = _report(source, sampled, counts, digest=digest, account=account_of(labels))
    storage.write(result.report, json.dumps(report.to_dict(), indent=1).encode())
    return result


def check(project: OpenProject, inputs: Inputs) -> None:
    """See before long work that names in the configuration are known."""
    del inputs
    features, bands = project.config.features, list(project.config.data.bands)
    check_indices(features.indices, bands, features.constants)


def step(project: OpenProject, inputs: Inputs) -> Prepared:
    """Make samples of what `ingest` returned."""
    images = Images.model_validate(inputs)
    return preprocess(project.config, project.hooks, images, project.storage)


def show(project: OpenProject, outputs: Inputs) -> int:
    """Tell what the data report holds, and where the samples are."""
    report = read_report(outputs["report"], project.storage)
    target = project.hooks.target
    say()
    _show_account(report.labels)
    counts = [(name, str(count)) for name, count in report.label_counts.items()]
    table((target.column.removesuffix("_name").replace("_", " "), "labelled pixels"), counts)
    if report.incomplete:
        say(f"\n{report.incomplete} labelled pixels more lack a feature, and are left out.")
    if report.gaps:
        say(f"\n{report.gaps} pixels of the area {project.config.features.gap_text}.")
    say()
    table(("period", "clear"), [(k, f"{v:.0%}") for k, v in report.clear_share.items()])
    say(f"\n{len(report.features)} features. Samples: {outputs['samples']}")
    say(f"Data report: {outputs['report']}")
    return 0


def _show_account(account: LabelAccount) -> None:
    """Tell what became of the labels: a line, and a table where any is not used as it is."""
    if account.summary:
        say(account.summary)
    header, rows = account.table()
    if rows:
        say()
        table(header, rows)
    for remark in account.remarks:
        say(f"\n{remark}")
    if account.summary:
        say()


def read_report(uri: str, storage: Storage) -> DataReport:
    """Read the report that `preprocess` wrote."""
    return DataReport.model_validate_json(storage.read(uri))


def _check_names(names: list[str], target: Target) -> None:
    if taken := sorted({*NOT_FEATURES, target.column} & set(names)):
        raise ConfigError(
            f"Feature {taken[0]} has the name of another column of the samples; give it a name of "
            "its own in [features.layers] or in the function that returns it."
        )


def _check_samples(samples: pd.DataFrame, look: Look, tally: Tally) -> None:
    geobox, validation = look.source.geobox, look.config.validation
    if not sum(tally.clear.values()):
        raise DataError(
            f"None of the {geobox.height} x {geobox.width} pixels is clear on any of the "
            f"{len(look.source.items)} dates; check [cloud_mask], or widen the dates."
        )
    look.target.check_samples(samples[look.target.column])
    if (blocks := samples["block"].nunique()) < validation.folds:
        size = validation.block_size_px
        raise DataError(
            f"Labels lie in {blocks} blocks of {size} x {size} pixels, fewer than the "
            f"{validation.folds} folds; lower [validation] folds or block_size_px."
        )


def _in_order(counts: Mapping[str, int], target: Target) -> dict[str, int]:
    """Sort strata as the target does, where they are its levels."""
    levels = target.levels(pd.Series(list(counts), dtype=object))
    return {
        name: counts[name] for name in (levels if set(levels) == set(counts) else sorted(counts))
    }


def _report(
    source: FeatureSource,
    sampled: Sampled,
    label_counts: dict[str, int],
    *,
    digest: str,
    account: LabelAccount,
) -> DataReport:
    tally, geobox = sampled.tally, source.geobox
    return DataReport(
        features=source.names,
        periods=source.periods,
        dates=source.dates,
        clear_share={p: tally.clear_share(p) for p in source.periods if p in tally.seen},
        value_range={name: (tally.low[name], tally.high[name]) for name in tally.low},
        outside_range={name: n / tally.values[name] for name, n in tally.outside.items()},
        label_counts=label_counts,
        **sampled.pixels,
        grid={
            "crs": str(geobox.crs),
            "transform": list(geobox.affine)[:6],
            "shape": list(geobox.shape),
        },
        labels=account,
        data_digest=digest,
        simulated=any(item.properties.get(SIMULATED) for item in source.items),
    )
