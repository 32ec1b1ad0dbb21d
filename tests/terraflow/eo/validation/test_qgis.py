from __future__ import annotations

from xml.etree import ElementTree as ET

from terraflow.eo.maps.map_file import qgis_style
from terraflow.eo.targets.parts import Band
from terraflow.eo.validation.qgis import NULL, points_style, project
from terraflow.eo.validation.sample import Sample


def choices(root: ET.Element) -> dict[str, str]:
    """Labels and values of the form's list."""
    [widget] = root.findall(".//field[@name='reference']/editWidget[@type='ValueMap']")
    pairs = widget.findall(".//Option[@name='map']/Option/Option")
    return {pair.attrib["name"]: pair.attrib["value"] for pair in pairs}


def test_project_shows_the_points_of_its_folder(sample: Sample) -> None:
    text = project(sample, "points.gpkg")
    assert text.startswith(b"<!DOCTYPE qgis")
    root = ET.fromstring(text)
    [layer] = root.findall("projectlayers/maplayer")
    assert layer.findtext("datasource") == "./points.gpkg|layername=points"
    assert layer.findtext("provider") == "ogr"
    assert layer.findtext("srs/spatialrefsys/authid") == "EPSG:32633"
    assert root.findtext("projectCrs/spatialrefsys/authid") == "EPSG:32633"
    [tree] = root.findall("layer-tree-group/layer-tree-layer")
    assert tree.attrib["id"] == layer.findtext("id")
    assert root.findtext("properties/Paths/Absolute") == "false"
    xmin = float(root.findtext("mapcanvas/extent/xmin") or 0)
    assert xmin < min(point.x for point in sample.points)


def test_form_offers_the_names_of_the_map_and_nothing_and_keeps_ids(sample: Sample) -> None:
    for text in (project(sample, "points.gpkg"), points_style(sample)):
        root = ET.fromstring(text)
        names = {name: name for name in ("forest", "grassland", "water")}
        assert choices(root) == {"": NULL} | names
        editable = {
            f.attrib["name"]: f.attrib["editable"]
            for f in root.iter("field")
            if "editable" in f.attrib
        }
        assert editable == {
            "id": "0",
            "lon": "0",
            "lat": "0",
            "reference": "1",
            "interpreter": "1",
            "note": "1",
        }


def test_map_tips_show_the_pictures_of_a_point_and_nothing_tells_the_stratum(
    sample: Sample,
) -> None:
    text = project(sample, "points.gpkg").decode()
    tip = ET.fromstring(text.encode()).findtext(".//mapTip") or ""
    assert "chips/[% lpad(\"id\", 5, '0') %]_JJA.png" in tip
    assert "stratum" not in text
    assert "mapped" not in text


def test_style_of_a_map_has_its_names_and_colours() -> None:
    band = Band("kind", names={1: "forest", 2: "water & ice"}, colours={1: "#00ff00", 2: "#0000ff"})
    root = ET.fromstring(qgis_style(band))
    entries = [entry.attrib for entry in root.iter("paletteEntry")]
    assert entries == [
        {"value": "1", "label": "forest", "color": "#00ff00", "alpha": "255"},
        {"value": "2", "label": "water & ice", "color": "#0000ff", "alpha": "255"},
    ]
