"""From a map to a sample in a folder, and back to areas beside the map and with its run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import matplotlib.image
import mlflow
import numpy as np
import pandas as pd
import pytest

from area import Area, make_project
from maps import BRIGHT, DARK, known_classes, make_model, write_items
from small_disks import make_room, small_disk
from terraflow.eo.maps import origin
from terraflow.eo.maps.map import make_map as make_real_map
from terraflow.eo.maps.map_file import read_info
from terraflow.eo.maps.report import report
from terraflow.eo.maps.validated import find_validation
from terraflow.eo.project import OpenProject, Project
from terraflow.eo.validation.chips import write_chips
from terraflow.eo.validation.draw import draw
from terraflow.eo.validation.read import estimate, interpret, record
from terraflow.eo.validation.sample import read_sample
from terraflow.errors import ConfigError, DataError, DiskError
from terraflow.settings import Settings
from terraflow.storage import Storage
from terraflow.tracking import runs


class Case:
    """A real map with its run, and a sample of it in a folder."""

    def __init__(self, area: Area, settings: Settings, folder: Path) -> None:
        self.storage = Storage(settings)
        self.project = OpenProject(Project("land_cover"), make_project(), self.storage)
        with runs.start_run(settings, "validation", name="run", tags={}) as run:
            mlflow.log_metrics({"users_accuracy_forest": 0.9, "overall_accuracy": 0.95})
        self.run_id = run.info.run_id
        self.items = write_items(area)
        model = make_model(run_id=self.run_id)
        self.map = make_real_map(
            model, self.items, self.storage, output=str(folder / "map.tif")
        ).map
        self.folder = folder / "sample"

    def draw(self, **options: Any) -> Any:
        return draw(self.project, self.map, self.folder, points=40, **options)

    def fill(self, name: str = "points.gpkg", **changes: Any) -> Path:
        """Interpret: what the model's truth is, but for some points."""
        frame = gpd.read_file(self.folder / "points.gpkg")
        drawn = {p.id: p for p in read_sample(self.folder / "points.gpkg").points}
        truth = known_classes()
        frame["reference"] = [
            ["forest", "water"][truth[drawn[i].row, drawn[i].column] - 1] for i in frame["id"]
        ]
        for key, value in changes.items():
            frame[key] = value(frame) if callable(value) else value
        frame.to_file(self.folder / name, layer="points")
        return self.folder / name

    def read(self, *paths: Path, **options: Any) -> Any:
        found = interpret(paths, self.storage)
        validation, points = estimate(self.project, found, **options)
        return validation, record(self.project, found, validation, points)


@pytest.fixture
def case(area: Area, tracked_settings: Settings, tmp_path: Path) -> Case:
    return Case(area, tracked_settings, tmp_path)


def test_draw_writes_what_qgis_needs(case: Case) -> None:
    sample = case.draw()
    made = sorted(str(path.relative_to(case.folder)) for path in case.folder.rglob("*"))
    chips = [f"chips/{number:05d}_DJF.png" for number in range(1, 41)]
    files = ["chips", *chips, "points.gpkg", "points.json", "points.qgs", "points.qml"]
    assert made == files
    assert read_sample(case.folder / "points.gpkg") == sample
    assert sample.run_id == case.run_id
    assert sample.seed == case.project.config.seed
    with pytest.raises(ConfigError, match=r"sample is not empty.*name a new one by --output"):
        case.draw()


@pytest.mark.parametrize("size", ["8k", "60k", "200k"])
def test_draw_on_a_full_disk_leaves_nothing_and_can_be_repeated(case: Case, size: str) -> None:
    with small_disk(size) as disk:
        case.folder = disk / "sample"
        told = f"at {disk} is full .*, or set --output to a folder on another"
        with pytest.raises(DiskError, match=told):
            case.draw()
        assert list(disk.iterdir()) == []
        make_room(disk)
        case.draw()


def test_chips_show_the_place_with_a_frame_around_the_pixel(case: Case) -> None:
    sample = case.draw()
    water = next(p for p in sample.points if p.mapped == "water" and p.column < 8)
    picture = matplotlib.image.imread(case.folder / "chips" / f"{water.id:05d}_DJF.png")
    picture = (255 * picture[..., :3]).round().astype(int)
    assert picture.shape == (8 * 41, 8 * 41, 3)
    assert (picture[20 * 8 + 4, 20 * 8 + 4] == 0).all()  # dark water
    assert (picture[20 * 8 - 1, 20 * 8 - 1] == (255, 0, 0)).all()
    assert (picture == (255, 0, 0)).all(axis=2).sum() == 4 * 9
    east = picture[20 * 8 + 4, 8 * (20 + 12 - water.column) + 4]
    assert (east == 255).all()  # bright forest begins at column 12
    assert (picture[0, 0] == 128).all()  # nothing is known of what lies outside of the images


def test_chips_of_true_colours_are_red_green_and_blue(
    area: Area, case: Case, tmp_path: Path
) -> None:
    """The three bands are the same image, each scaled in its own way."""
    from dataclasses import replace

    from terraflow.eo.config.imagery import Scaling
    from terraflow.eo.images.collection import read_items

    sample = case.draw(chips=False)
    scaling = {
        "red": Scaling(scale=1, offset=0),
        "green": Scaling(scale=0, offset=DARK),
        "blue": Scaling(scale=0, offset=(DARK + BRIGHT) / 2),
    }
    bands = dict.fromkeys(("nir", "red", "green", "blue"), "B04")
    recipe = replace(case.project.recipe, bands=bands, scaling=scaling)
    items = read_items(case.items, case.storage)
    transform = read_info(case.map, case.storage).transform
    few = sample.model_copy(update={"points": sample.points[:2]})
    made = write_chips(
        tmp_path / "c", few, transform, items=items, recipe=recipe, storage=case.storage
    )
    assert made == 2
    picture = matplotlib.image.imread(tmp_path / "c" / "00001_DJF.png")[..., :3]
    colours = {tuple(pixel) for pixel in (255 * picture.reshape(-1, 3)).round().astype(int)}
    # water, forest, what no image shows, and the frame
    assert colours == {(0, 0, 127), (255, 0, 127), (128, 128, 128), (255, 0, 0)}


def test_draw_without_images_warns_and_goes_on(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(case.items).unlink()
    case.draw()
    assert "Warning: no pictures of the points: " in capsys.readouterr().out
    assert (case.folder / "points.gpkg").exists()


def test_read_gives_areas_beside_the_map_and_with_its_run(case: Case) -> None:
    case.draw(chips=False)
    first = read_sample(case.folder / "points.gpkg").points[0]
    wrong = {"forest": "water", "water": "forest"}[first.mapped]
    path = case.fill(reference=lambda f: f["reference"].where(f["id"] != first.id, wrong))
    validation, written = case.read(path)
    assert written == [
        case.map.replace(".tif", "_validation.json"),
        case.map.replace(".tif", "_validation.parquet"),
    ]
    assert (validation.points, validation.interpreters) == (40, ["points"])
    overall = validation.estimates["overall_accuracy"]
    assert overall["low"] < overall["value"] == pytest.approx(39 / 40, abs=0.01)
    found, remark = find_validation(case.map, case.storage)
    assert (found, remark) == (validation, "")
    frame = gpd.read_parquet(written[1])
    assert len(frame) == 40
    assert (frame["mapped"] != frame["reference"]).sum() == 1
    assert {"id", "stratum", "interpreters", "note"} <= set(frame)
    run = mlflow.get_run(case.run_id)
    assert run.data.metrics["sample_overall_accuracy"] == pytest.approx(overall["value"])
    assert run.data.metrics["sample_users_accuracy_forest_low"] < 1
    assert run.data.tags["sample_map"] == case.map
    [logged] = mlflow.MlflowClient().list_artifacts(case.run_id, "validation")
    assert logged.path == f"validation/{validation.sample_id}.json"


def test_report_and_origin_tell_what_was_read(case: Case) -> None:
    section, target = case.project.config.map, case.project.hooks.target
    before = report(case.map, target, section, case.storage).table
    assert "mapped area (pixel count)" in before
    assert "estimated area" not in before
    assert "validated" not in dict(origin.step(case.project, {"file": case.map})["origin"])
    case.draw(chips=False)
    case.read(case.fill())
    after = report(case.map, target, section, case.storage).table
    assert "probability sample of this map, of 40 points in 2 strata" in after
    told = dict(origin.step(case.project, {"file": case.map})["origin"])["validated"]
    assert "sample of 40 points: overall accuracy 1.000 (95 % interval 0." in told


def test_sample_of_another_map_is_refused_by_digest(case: Case, tmp_path: Path) -> None:
    import rasterio

    case.draw(chips=False)
    path = case.fill()
    copy = tmp_path / "copy.tif"
    copy.write_bytes(Path(case.map).read_bytes())
    assert interpret([path], case.storage, map_uri=str(copy)).map == str(copy)
    with rasterio.open(copy, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        values = file.read(1)
        values[10, 10] = 3 - values[10, 10]
        file.write(values, 1)
    with pytest.raises(DataError, match=r"drawn from a map with the digest .* it is another map"):
        interpret([path], case.storage, map_uri=str(copy))


def test_points_without_a_reference_are_named_and_left_out_on_demand(case: Case) -> None:
    case.draw(chips=False)
    path = case.fill(reference=lambda f: f["reference"].where(~f["id"].isin([3, 5]), None))
    with pytest.raises(DataError, match=r"2 of 40 points have no reference.*\(id 3, 5\)"):
        case.read(path)
    validation, _ = case.read(path, drop_missing=True)
    assert (validation.points, validation.left_out) == (38, 2)


def test_interpreters_who_differ_are_listed_and_a_third_decides(case: Case) -> None:
    case.draw(chips=False)
    one = case.fill("one.gpkg", interpreter="Anna")
    drawn = read_sample(case.folder / "points.gpkg").points
    forest = next(point.id for point in drawn if point.mapped == "forest")
    other = case.fill(
        "other.gpkg",
        interpreter="Ben",
        reference=lambda f: f["reference"].where(f["id"] != forest, "water"),
    )
    third = case.fill("third.gpkg", interpreter="Eva")
    found = interpret([one, other], case.storage)
    assert found.agreement.disagreements.index.tolist() == [forest]
    assert 0.8 < found.agreement.kappa["Anna, Ben"] < 1
    with pytest.raises(DataError, match=rf"1 of 40 points .* undecided \(id {forest}\)"):
        estimate(case.project, found)
    validation, _ = case.read(one, other, third)
    assert validation.disagreements == 1
    assert validation.estimates["overall_accuracy"]["value"] == 1
    assert set(validation.kappa) == {"Anna, Ben", "Anna, Eva", "Ben, Eva"}


def test_clusters_in_a_column_are_honoured_and_must_be_whole(case: Case) -> None:
    case.draw(chips=False)
    flip = {"forest": "water", "water": "forest"}
    mistaken = {"reference": lambda f: f["reference"].where(f["id"] > 12, f["reference"].map(flip))}
    alone, _ = case.read(case.fill(**mistaken))
    together, _ = case.read(case.fill(**mistaken, cluster=lambda f: (f["id"] - 1) // 4))
    one, other = (v.estimates["overall_accuracy"] for v in (alone, together))
    assert one["value"] == pytest.approx(other["value"])
    assert other["standard_error"] > 1.3 * one["standard_error"]
    path = case.fill(cluster=lambda f: np.where(f["id"] > 2, 1.0, np.nan))
    with pytest.raises(DataError, match=r"others \(id 1, 2\) have none"):
        case.read(path)


def test_read_of_a_map_whose_run_is_gone_says_so(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case.draw(chips=False)
    path = case.folder / "points.json"
    told = json.loads(path.read_text()) | {"run_id": "0" * 32}
    path.write_text(json.dumps(told))
    case.read(case.fill())
    said = capsys.readouterr().out
    assert "Warning: the estimates are not logged to MLflow: There is no run" in said
    assert find_validation(case.map, case.storage)[0]


def test_points_table_is_one_row_a_point(case: Case) -> None:
    case.draw(chips=False)
    one, other = (case.fill(f"{n}.gpkg", interpreter=n, note=f"by {n}") for n in ("Anna", "Ben"))
    _, points = estimate(case.project, interpret([one, other], case.storage))
    assert isinstance(points, pd.DataFrame)
    assert points["id"].tolist() == list(range(1, 41))
    assert set(points["interpreters"]) == {"Anna, Ben"}
    assert set(points["note"]) == {"by Anna; by Ben"}


def test_task_draws_reads_and_shows_the_areas(
    case: Case, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from invoke.context import Context

    from terraflow.tasks.validate import validate

    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    folder = str(case.folder)
    given = {"map": case.map, "points": "40", "output": folder, "no_chips": True, "seed": "7"}
    validate(Context(), also=[], action="draw", **given)
    said = capsys.readouterr().out
    assert "40 points: " in said
    assert f"validate read {folder}/points.gpkg" in said
    assert read_sample(case.folder / "points.gpkg").seed == 7
    other = case.fill("ben.gpkg", interpreter="Ben", reference="water", note="all wet")
    third = case.fill("eva.gpkg", interpreter="Eva")
    case.fill(interpreter="Anna")
    validate(
        Context(),
        also=[str(other), str(third)],
        action="read",
        file=str(case.folder / "points.gpkg"),
    )
    said = capsys.readouterr().out
    assert "Cohen's kappa of Anna, Ben: 0.00" in said
    assert "Cohen's kappa of Anna, Eva: 1.00" in said
    assert f"points on which they differ: {case.folder / 'disagreements.csv'}" in said
    assert "| forest |" in said
    assert "estimated area, ha" in said
    assert f"validation: {case.map.replace('.tif', '_validation.json')}" in said
    listed = pd.read_csv(case.folder / "disagreements.csv")
    assert list(listed) == ["id", "Anna", "Ben", "Eva"]
    assert (listed["Ben"] == "water").all()
