"""A sample of a map of numbers: drawn, filled in, read, and told with the map."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import mlflow
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS

from area import make_project
from terraflow.eo.maps import origin
from terraflow.eo.maps.map_file import create_map, write_cog
from terraflow.eo.maps.map_origin import MapOrigin
from terraflow.eo.maps.report import report
from terraflow.eo.maps.validated import find_validation
from terraflow.eo.project import OpenProject, Project
from terraflow.eo.targets.area.means import estimate_means
from terraflow.eo.targets.area.pixel_areas import PixelAreas
from terraflow.eo.targets.area.strata import draw_pixels, part_numbers
from terraflow.eo.targets.numbers import Numbers
from terraflow.eo.validation.draw import draw
from terraflow.eo.validation.read import estimate, interpret, record
from terraflow.eo.validation.sample import Sample, draw_sample, read_sample
from terraflow.eo.validation.size import allocate
from terraflow.errors import ConfigError, DataError
from terraflow.settings import Settings
from terraflow.storage import Storage
from terraflow.tracking import runs

GRID = GeoBox((40, 50), Affine(10, 0, 500_000, 0, -10, 5_100_000), "EPSG:32633")
RMSE = 4.0


class Height(Numbers):
    name, column, unit = "height", "height_m", "m"


def heights() -> np.ndarray:
    """What is true: 0 to 39.2 m from west to east."""
    return np.repeat(np.arange(50, dtype="float64")[None] * 0.8, 40, axis=0)


def mapped_heights() -> np.ndarray:
    """A tenth too low, with noise; the first row is nodata."""
    noise = np.random.default_rng(1).normal(0, 2, (40, 50))
    values = (0.9 * heights() + noise).astype("float32")
    values[0] = np.nan
    return values


def write_map(path: Path, values: np.ndarray, run_id: str = "5" * 32) -> str:
    told = {
        "model": "models:/height/3",
        "model_name": "height",
        "items": str(path.with_name("items.json")),
        "items_digest": "1",
        "config_digest": "2",
        "version": "0.2.0",
        "run_id": run_id,
        "target": "height",
    }
    bands = Height().bands([], None)  # type: ignore[arg-type]
    plain = path.with_name("plain.tif")
    with create_map(plain, GRID, bands, "float32", MapOrigin.model_validate(told)) as file:
        file.write(values[None])
    write_cog(plain, path, "average")
    return str(path)


class Case:
    """A map of heights with its run, and a sample of it in a folder."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.storage = Storage(settings)
        self.project = OpenProject(
            Project("land_cover", target=Height()), make_project(), self.storage
        )
        with runs.start_run(settings, "validation", name="run", tags={}) as run:
            mlflow.log_metrics({"rmse": RMSE})
        self.run_id = run.info.run_id
        self.map = write_map(folder / "map.tif", mapped_heights(), self.run_id)
        self.folder = folder / "sample"

    def draw(self, **options: Any) -> Sample:
        return draw(self.project, self.map, self.folder, chips=False, **{"points": 50} | options)

    def fill(self, name: str = "points.gpkg", **changes: Any) -> Path:
        """Measure each point's height."""
        frame = gpd.read_file(self.folder / "points.gpkg")
        drawn = {p.id: p for p in read_sample(self.folder / "points.gpkg").points}
        frame["reference"] = [heights()[drawn[i].row, drawn[i].column] for i in frame["id"]]
        for key, value in changes.items():
            frame[key] = value(frame) if callable(value) else value
        frame.to_file(self.folder / name, layer="points")
        return self.folder / name

    def read(self, *paths: Path, **options: Any) -> Any:
        found = interpret(paths, self.storage)
        validation, points = estimate(self.project, found, **options)
        return validation, record(self.project, found, validation, points)


@pytest.fixture
def case(tracked_settings: Settings, tmp_path: Path) -> Case:
    return Case(tracked_settings, tmp_path)


def test_points_ask_for_a_number_and_do_not_tell_the_maps(case: Case) -> None:
    sample = case.draw()
    assert (sample.levels, len(sample.strata)) == ([], 5)
    for point in sample.points:
        assert point.mapped == pytest.approx(mapped_heights()[point.row, point.column])
    assert read_sample(case.folder / "points.gpkg") == sample
    told = pyogrio.read_info(case.folder / "points.gpkg")
    types = dict(zip(told["fields"], told["ogr_types"], strict=True))
    assert types["reference"] == "OFTReal"
    assert gpd.read_file(case.folder / "points.gpkg")["reference"].isna().all()
    with sqlite3.connect(case.folder / "points.gpkg") as database:
        [columns] = database.execute("SELECT count(reference) FROM points").fetchall()
        text = "\n".join(database.iterdump())
    assert columns == (0,)  # null, and not NaN
    for name in ("mapped", "stratum", "range 1", *(repr(p.mapped) for p in sample.points)):
        assert name not in text
    root = ET.fromstring((case.folder / "points.qml").read_bytes())
    [widget] = root.findall(".//field[@name='reference']/editWidget")
    assert widget.attrib["type"] == "TextEdit"
    assert widget.findall(".//Option[@name='map']") == []
    rules = [rule.attrib["filter"] for rule in root.iter("rule")]
    assert rules == ['NOT ("reference" IS NOT NULL)', '"reference" IS NOT NULL']


def test_spread_of_strata_is_that_of_the_map_and_its_error(case: Case) -> None:
    sample = case.draw()
    spreads = Height().spreads({"rmse": RMSE}, sample.strata)
    for name, each in sample.strata.items():
        assert each.spread is not None
        assert spreads[name] == pytest.approx(np.hypot(each.spread, RMSE))
    known = mapped_heights()[1:]
    unknown = Height().spreads({}, sample.strata)
    first, name = next(iter(sample.strata.values())), next(iter(sample.strata))
    assert unknown[name] == pytest.approx(np.hypot(first.spread or 0, known.std()), rel=1e-4)


def test_points_follow_from_the_standard_error_in_the_maps_unit(case: Case) -> None:
    scores = {"rmse": RMSE}
    wanted = draw_sample(case.map, Height(), case.storage, scores=scores, target_se=0.5)
    shares = np.full(5, 0.2)
    spreads = np.array([*Height().spreads(scores, wanted.strata).values()])
    expected = (shares @ spreads) ** 2 / (0.25 + shares @ spreads**2 / 1950)
    assert len(wanted.points) == pytest.approx(expected, abs=1.01)
    large = draw_sample(case.map, Height(), case.storage, scores=scores, target_se=2.5)
    assert len(large.points) == 10  # two of each range, and above 1 is no mistake
    by_default = draw_sample(case.map, Height(), case.storage, scores=scores)
    overall = np.hypot(mapped_heights()[1:].std(), RMSE)
    expected = (shares @ spreads) ** 2 / ((0.05 * overall) ** 2 + shares @ spreads**2 / 1950)
    assert len(by_default.points) == pytest.approx(expected, rel=0.03)
    with pytest.raises(ConfigError, match=r"--target-se 0\.0 is no standard error; give one above"):
        draw_sample(case.map, Height(), case.storage, scores=scores, target_se=0.0)


def test_map_of_one_number_needs_a_number_of_points(tmp_path: Path, storage: Storage) -> None:
    flat = write_map(tmp_path / "flat.tif", np.full((40, 50), 3, "float32"))
    with pytest.raises(ConfigError, match=r"holds one number alone .* give their number by --poi"):
        draw_sample(flat, Height(), storage, scores={})
    sample = draw_sample(flat, Height(), storage, scores={}, points=20, allocation="neyman")
    assert len(sample.points) == 20


def test_numbers_have_no_strata_of_names(case: Case) -> None:
    assert case.draw(strata_by="values").strata_by == "values"
    with pytest.raises(ConfigError, match="--strata classes is not for a map of numbers"):
        draw_sample(case.map, Height(), case.storage, scores={}, strata_by="classes")


def test_read_tells_mean_bias_and_rmse_beside_the_map_and_with_its_run(case: Case) -> None:
    sample = case.draw()
    validation, written = case.read(case.fill())
    told = validation.estimates["measures"]
    assert list(told) == ["mean", "mean_with_map", "bias", "rmse"]
    error = np.array([p.mapped for p in sample.points]) - [
        heights()[p.row, p.column] for p in sample.points
    ]
    assert told["bias"]["value"] == pytest.approx(error.mean(), rel=0.01)  # strata are alike
    assert told["rmse"]["value"] == pytest.approx(np.sqrt((error**2).mean()), rel=0.01)
    map_mean = validation.estimates["map_mean"]
    assert map_mean == pytest.approx(np.nanmean(mapped_heights().astype("float64")), rel=1e-5)
    truth = heights().mean()
    for name in ("mean", "mean_with_map"):
        assert told[name]["low"] < truth < told[name]["high"]
    assert told["mean_with_map"]["standard_error"] < told["mean"]["standard_error"]
    assert find_validation(case.map, case.storage)[0] == validation
    frame = gpd.read_parquet(written[1])
    assert (frame["mapped"].dtype, frame["reference"].dtype) == ("float64", "float64")
    metrics = mlflow.get_run(case.run_id).data.metrics
    assert metrics["sample_mean_with_map_low"] == pytest.approx(told["mean_with_map"]["low"])
    assert metrics["sample_rmse"] == pytest.approx(told["rmse"]["value"])


def test_report_and_origin_tell_what_was_read(case: Case) -> None:
    section, target = case.project.config.map, case.project.hooks.target
    before = report(case.map, target, section, case.storage).table
    assert "| whole map | 1950 |" in before
    assert "validate draw --map" in before
    case.draw()
    validation, _ = case.read(case.fill())
    after = report(case.map, target, section, case.storage).table
    assert "validate draw" not in after
    assert "probability sample of this map, of 50 points in 5 strata" in after
    value = validation.estimates["measures"]["mean"]["value"]
    assert f"| mean of the reference | {value:.4g} (" in after
    told = dict(origin.step(case.project, {"file": case.map})["origin"])["validated"]
    assert f"sample of 50 points: mean {value:.4g} (95 % interval " in told


def test_sample_of_another_map_is_refused_by_digest(case: Case, tmp_path: Path) -> None:
    case.draw()
    path = case.fill()
    validation, _ = case.read(path)
    values = mapped_heights()
    values[10, 10] += 1
    other = write_map(tmp_path / "other.tif", values, case.run_id)
    with pytest.raises(DataError, match=r"drawn from a map with the digest .* it is another map"):
        interpret([path], case.storage, map_uri=other)
    with rasterio.open(case.map, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.write(values, 1)
    section, target = case.project.config.map, case.project.hooks.target
    table = report(case.map, target, section, case.storage).table
    assert "its points tell nothing of this map" in table
    assert "mean of the reference" not in table
    assert validation.points == 50


@pytest.mark.parametrize("word", ["tall", "12,5", "inf", "nan", "True", "12 m"])
def test_what_is_no_number_is_named_by_its_id(case: Case, word: str) -> None:
    case.draw()
    path = case.fill(
        reference=lambda f: f["reference"].astype("str").where(~f["id"].isin([3, 5]), word)
    )
    with pytest.raises(DataError, match=rf"2 with the reference '{word}', which .* \(id 3, 5\)"):
        interpret([path], case.storage)


def test_text_in_a_column_of_numbers_does_not_pass_for_0(case: Case) -> None:
    """SQLite takes it, and OGR would read 0."""
    case.draw()
    path = case.fill()
    with sqlite3.connect(path) as database:
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            database.execute(f'DROP TRIGGER "{name}"')  # they need functions of GDAL's
        database.execute("UPDATE points SET reference = 'tall' WHERE id = 7")
        database.execute("UPDATE points SET reference = ' ' WHERE id = 9")
    with pytest.raises(DataError, match=r"1 with the reference 'tall', which .* \(id 7\)"):
        interpret([path], case.storage)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE points SET reference = '12.5' WHERE id = 7")
    found = interpret([path], case.storage)
    assert found.agreement.reference[7] == 12.5
    assert found.undecided == [9]


def test_numbers_as_texts_are_read(case: Case) -> None:
    case.draw()
    number, text = (
        case.fill(f"{kind}.gpkg", reference=lambda f, kind=kind: f["reference"].astype(kind))
        for kind in ("float64", "str")
    )
    one, other = (interpret([path], case.storage).agreement.reference for path in (number, text))
    assert one.dtype == "float64"
    assert one.tolist() == other.tolist()


def test_points_without_a_number_are_named_and_left_out_on_demand(case: Case) -> None:
    case.draw()
    path = case.fill(reference=lambda f: f["reference"].where(~f["id"].isin([3, 5])))
    with pytest.raises(DataError, match=r"2 of 50 points have no reference.*\(id 3, 5\)"):
        case.read(path)
    validation, _ = case.read(path, drop_missing=True)
    assert (validation.points, validation.left_out) == (48, 2)


def test_task_tells_how_far_interpreters_are_apart(
    case: Case, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from terraflow.tasks import validate as module

    case.draw()
    case.fill(interpreter="Anna")
    ben = case.fill(
        "ben.gpkg",
        interpreter="Ben",
        reference=lambda f: f["reference"] + np.where(f["id"] == 7, 100, 1.0),
    )
    files = [str(case.folder / "points.gpkg"), str(ben)]
    module._read(case.project, files, "", drop_missing=False)
    said = capsys.readouterr().out
    assert f"Mean absolute difference of Anna, Ben: {(49 + 100) / 50:.4g}" in said
    assert "kappa" not in said
    assert "mean of the reference, with the map's help" in said
    listed = pd.read_csv(case.folder / "disagreements.csv")
    assert listed["id"].iloc[0] == 7
    found, _ = find_validation(case.map, case.storage)
    assert found is not None
    assert found.mean_absolute_difference == {"Anna, Ben": pytest.approx(2.98)}
    assert found.estimates["measures"]["rmse"]["value"] > 0


@pytest.mark.parametrize("how", ["proportional", "neyman"])
def test_intervals_of_300_draws_hold_the_true_mean(how: str) -> None:
    truth, mapped = heights(), mapped_heights().astype("float64")
    areas = PixelAreas(CRS.from_epsg(32633), GRID.affine, truth.shape)
    numbers, strata = part_numbers(mapped, areas)
    sizes = np.array([each.pixels for each in strata.values()])
    spreads = np.array([*Height().spreads({"rmse": RMSE}, strata).values()])
    counts = allocate(100, sizes, sizes / sizes.sum(), spreads, how)
    true = {
        "mean": truth[1:].mean(),
        "mean_with_map": truth[1:].mean(),
        "bias": (mapped - truth)[1:].mean(),
        "rmse": np.sqrt(((mapped - truth)[1:] ** 2).mean()),
    }
    held = dict.fromkeys(true, 0)
    width = dict.fromkeys(true, 0.0)
    for seed in range(300):
        at = tuple(np.concatenate(draw_pixels(numbers, counts.tolist(), areas, seed)).T)
        sample = pd.DataFrame(
            {
                "stratum": np.repeat([*strata], counts),
                "mapped": mapped[at],
                "reference": truth[at],
            }
        )
        for name, told in estimate_means(sample, strata)["measures"].items():
            held[name] += told["low"] <= true[name] <= told["high"]
            width[name] += told["high"] - told["low"]
    for name, count in held.items():
        assert 0.92 <= count / 300 <= 0.98, name
    assert width["mean_with_map"] < width["mean"]
