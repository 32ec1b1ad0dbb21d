"""Kind: one of several is taken without asking."""

from __future__ import annotations

import zipfile

import geopandas as gpd
import pandas as pd
import pytest

from field.bed import Bed
from field.scenes import labels, reflectance, write_scene

WRONG = {"forest": "crop", "crop": "forest"}


@pytest.fixture
def scene(bed: Bed) -> Bed:
    write_scene(bed.folder / "scene_20240514.tif", reflectance().astype("float32"))
    return bed


def refused_then_right(bed: Bed, layer: str, *said: str) -> None:
    """See that the error names all layers, and that its remedy gives the right map."""
    bed.fails("train", says=[*said, "[labels] layer"])
    bed.set("labels", layer=layer)
    bed.check_map()


def test_layers_of_a_geopackage(scene: Bed) -> None:
    path = scene.folder / "labels.gpkg"
    labels(names=WRONG).to_file(path, layer="labels_2019")
    labels().to_file(path, layer="labels_2024")
    refused_then_right(scene, "labels_2024", "labels_2019", "labels_2024", "class_name", "64")


def test_first_layer_lacks_the_field(scene: Bed) -> None:
    path = scene.folder / "labels.gpkg"
    labels().rename(columns={"class_name": "other"}).to_file(path, layer="roads")
    labels().to_file(path, layer="fields")
    refused_then_right(scene, "fields", "roads", "fields")


def test_layer_that_is_not_there(scene: Bed) -> None:
    path = scene.folder / "labels.gpkg"
    labels().to_file(path, layer="labels_2024")
    scene.set("labels", layer="labels_2025")
    scene.fails("train", says=["labels_2025", "labels_2024"])
    scene.set("labels", layer=None)
    scene.check_map()


def test_style_of_qgis_is_no_layer(scene: Bed) -> None:
    path = scene.folder / "labels.gpkg"
    labels().to_file(path, layer="fields")
    style = pd.DataFrame({"f_table_name": ["fields"], "styleQML": ["<qgis/>"]})
    gpd.GeoDataFrame(style, geometry=[None]).to_file(path, layer="layer_styles")
    scene.check_map()


def test_shapefiles_in_a_zip(scene: Bed) -> None:
    folder = scene.folder / "shapes"
    folder.mkdir()
    labels(names=WRONG).to_file(folder / "a_2019.shp")
    labels().to_file(folder / "b_2024.shp")
    with zipfile.ZipFile(scene.folder / "labels.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    scene.set("labels", source="labels.zip")
    refused_then_right(scene, "b_2024", "a_2019", "b_2024")


def test_folders_of_a_kml(scene: Bed) -> None:
    """KML's layers are its folders; KML knows no attributes but Name."""
    frames = {"old": labels(names=WRONG), "new": labels()}
    parts = []
    for name, frame in frames.items():
        marks = []
        for row in frame.to_crs("EPSG:4326").itertuples():
            ring = " ".join(f"{x:.9f},{y:.9f}" for x, y in row.geometry.exterior.coords)
            marks.append(
                f"<Placemark><name>{row.class_name}</name><Polygon><outerBoundaryIs><LinearRing>"
                f"<coordinates>{ring}</coordinates></LinearRing></outerBoundaryIs></Polygon>"
                "</Placemark>"
            )
        parts.append(f"<Folder><name>{name}</name>{''.join(marks)}</Folder>")
    text = (
        f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{"".join(parts)}</Document></kml>'
    )
    (scene.folder / "labels.kml").write_text(text)
    scene.set("labels", source="labels.kml", field="Name")
    refused_then_right(scene, "new", "old", "new")
