"""Places worth labelling next, in the simulated area and in a small one whose pixels are known."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from shapely.geometry import box
from sklearn.metrics import f1_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from area import Area, make_project
from maps import WIDTH, make_model, write_items
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.images.collection import Images, read_items
from terraflow.eo.images.sources import simulate
from terraflow.eo.labelling import label_next
from terraflow.eo.labelling.label_next import check, choose_places, find_places, write_places
from terraflow.eo.models.applicability import learn_applicability
from terraflow.eo.project import OpenProject, Project
from terraflow.eo.targets.classes.classification import Classification
from terraflow.errors import ConfigError, NothingToDoError
from terraflow.settings import Settings
from terraflow.storage import Storage

RANDOM = np.random.default_rng(5)


def test_choose_places_takes_doubtful_pixels_of_each_kind() -> None:
    kinds = RANDOM.normal(size=(4, 3)) * 20
    features = (kinds[np.arange(400) % 4] + RANDOM.normal(size=(400, 3))).astype("float32")
    doubt = np.where(np.arange(400) < 80, 1.0, 0.1)
    chosen = choose_places(features, doubt, 4, seed=0)
    assert (chosen < 80).all()
    assert sorted(chosen % 4) == [0, 1, 2, 3]


def test_choose_places_gives_no_more_than_there_are_and_none_twice() -> None:
    features = np.repeat(np.eye(2, dtype="float32"), 3, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of equal pixels
        chosen = choose_places(features, np.ones(6), 50, seed=0)
    assert len(set(chosen.tolist())) == len(chosen) <= 6


def simulated_area(
    seed: int, folder: Path, storage: Storage
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Features and true classes of the pixels of a simulated area that have all features."""
    catalogue, _ = simulate.make_area(storage, str(folder), seed=seed)
    bands = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "swir16": "B11"}
    config = make_project(
        data={"catalogue": catalogue, "bands": bands},
        cloud_mask={"asset": "SCL", "clear": [4, 5, 6, 7]},
        features={"composites": "month_of_year", "indices": ["NDVI", "NDWI"]},
    )
    source = FeatureSource(read_items(catalogue, storage), FeatureRecipe.of(config, []), storage)
    values = np.full((len(source.names), simulate.SIZE_PX, simulate.SIZE_PX), np.nan, "float32")
    for window, features in source.iterate("features"):
        (top, bottom), (left, right) = window.toranges()
        values[:, top:bottom, left:right] = features.values
    random = np.random.default_rng(seed)
    parcels = simulate._voronoi(random)
    classes = random.choice(len(simulate.SPECTRA), size=simulate.PARCELS, p=simulate.SHARES)
    classes[: len(simulate.SPECTRA)] = np.arange(len(simulate.SPECTRA))
    table = values.reshape(len(values), -1).T
    whole = np.isfinite(table).all(axis=1)
    return table[whole], classes[parcels].ravel()[whole]


@pytest.mark.exhaustive
def test_fifty_places_beat_fifty_random_ones_in_nine_of_ten_areas(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten simulated areas, of which 50 random pixels and one of each class are labelled."""
    storage, target, gains = Storage(settings), Classification(), []
    for seed in range(10):
        table, truth = simulated_area(seed, tmp_path, storage)
        random = np.random.default_rng(100 + seed)
        first = [random.choice(np.flatnonzero(truth == one)) for one in np.unique(truth)]
        start = np.union1d(random.choice(len(table), 50, replace=False), first)
        tested = random.choice(len(table), 40_000, replace=False)

        def fit(places: npt.NDArray[np.int64], table=table, truth=truth):  # type: ignore[no-untyped-def]
            network = MLPClassifier((64,), alpha=1.0, max_iter=300, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return make_pipeline(StandardScaler(), network).fit(table[places], truth[places])

        def score(places: npt.NDArray[np.int64], table=table, truth=truth, tested=tested) -> float:  # type: ignore[no-untyped-def]
            found = fit(places).predict(table[tested])
            return float(f1_score(truth[tested], found, average="macro"))

        some = random.choice(len(table), label_next.PIXELS, replace=False)
        doubt = target.doubt(fit(start).predict_proba(table[some]))
        chosen = some[choose_places(table[some], doubt, 50, seed=seed)]
        assert len(chosen) <= 50
        others = random.choice(len(table), len(chosen), replace=False)
        with_chosen, with_others = (
            score(np.concatenate([start, more])) for more in (chosen, others)
        )
        gains.append(with_chosen - with_others)
    with capsys.disabled():
        told = ", ".join(f"{gain:+.3f}" for gain in gains)
        print(f"\nmacro F1 with 50 chosen less with 50 random places: {told}")  # noqa: T201 - figures
    assert sum(gain > 0 for gain in gains) >= 9


@pytest.fixture
def project(settings: Settings) -> OpenProject:
    return OpenProject(Project("land_cover"), make_project(), Storage(settings))


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Water in the west and forest in the east; labels cover the upper part."""
    items = write_items(Area(tmp_path / "area"))
    outline = box(500_000, 5_100_000 - 60, 500_000 + 10 * WIDTH, 5_100_000)
    frame = gpd.GeoDataFrame({"kind": ["water"]}, geometry=[outline], crs="EPSG:32633")
    frame.to_file(tmp_path / "labels.gpkg")
    return Images(items=items, labels=str(tmp_path / "labels.gpkg"))


def test_find_places_leaves_out_labelled_pixels_and_those_without_features(
    project: OpenProject, images: Images
) -> None:
    places, _ = find_places(project, make_model(), images, 1000)
    assert len(places) > 1
    assert (places["y"] < 5_100_000 - 60).all()
    assert set(places["predicted"]) == {"forest", "water"}


def test_find_places_of_another_kind_than_the_training_are_the_last(
    project: OpenProject, images: Images
) -> None:
    model = make_model()
    features = pd.DataFrame([[0.1, 0.1, 0.0], [0.11, 0.11, 0.0]] * 5, columns=model.info.features)
    importance = dict.fromkeys(model.info.features, 1.0)
    folds = np.arange(10) % 2
    known = learn_applicability(features, importance, folds=folds, seed=0)  # of dark water alone
    places, _ = find_places(project, replace(model, applicability=known), images, 1000)
    assert (places.loc[places["predicted"] == "forest", "doubt"] == 0).all()


def test_places_are_written_with_an_empty_field_for_the_label(
    project: OpenProject, images: Images, tmp_path: Path
) -> None:
    places, source = find_places(project, make_model(), images, 5)
    write_places(places, source, str(tmp_path / "next.gpkg"), "kind", project.storage)
    found = gpd.read_file(tmp_path / "next.gpkg")
    assert list(found.columns) == ["place", "kind", "predicted", "doubt", "geometry"]
    assert found["kind"].isna().all()
    assert found["place"].tolist() == list(range(1, len(places) + 1))
    assert found.crs == "EPSG:32633"
    assert found.geometry.x.tolist() == places["x"].tolist()


def test_find_places_where_all_is_labelled_is_refused(
    project: OpenProject, images: Images, tmp_path: Path
) -> None:
    outline = box(499_000, 5_090_000, 510_000, 5_110_000)
    frame = gpd.GeoDataFrame({"kind": ["water"]}, geometry=[outline], crs="EPSG:32633")
    frame.to_file(tmp_path / "all.gpkg")
    everywhere = images.model_copy(update={"labels": str(tmp_path / "all.gpkg")})
    with pytest.raises(NothingToDoError, match="that has no label yet has all features"):
        find_places(project, make_model(), everywhere, 5)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [({"n": 0}, "-n 0 is no number of places"), ({"output": "next.shp"}, "is no GeoPackage")],
)
def test_check_refuses_nonsense(inputs: dict[str, object], told: str, project: OpenProject) -> None:
    with pytest.raises(ConfigError, match=told):
        check(project, inputs)
