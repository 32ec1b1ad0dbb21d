"""A project of QGIS in which points are interpreted: a form, a style, and pictures as map tips.

References
----------
https://docs.qgis.org/latest/en/docs/user_manual/appendices/qgis_file_formats.html
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from pyproj import CRS

from terraflow.eo.validation.chips import SEASONS
from terraflow.eo.validation.points import LAYER
from terraflow.eo.validation.sample import Sample

__all__ = ["points_style", "project"]

VERSION = "3.34.0"
#: QGIS's own value of a value map for "nothing".
NULL = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"
FIXED = ("id", "lon", "lat")


def project(sample: Sample, points: str) -> bytes:
    """Write a project (.qgs) with the points as its one layer, by a path relative to it.

    Parameters
    ----------
    points : str
        Name of the GeoPackage, in the same folder.
    """
    root = ET.Element("qgis", version=VERSION, projectname=f"Sample {sample.id}")
    ET.SubElement(root, "title").text = f"Sample {sample.id}"
    _srs(ET.SubElement(root, "projectCrs"), sample.crs)
    source = f"./{points}|layername={LAYER}"
    tree = ET.SubElement(root, "layer-tree-group")
    ET.SubElement(
        tree,
        "layer-tree-layer",
        id=LAYER,
        name=LAYER,
        source=source,
        providerKey="ogr",
        checked="Qt::Checked",
        expanded="1",
    )
    layers = ET.SubElement(root, "projectlayers")
    layer = ET.SubElement(layers, "maplayer", type="vector", geometry="Point")
    for tag, text in (
        ("id", LAYER),
        ("datasource", source),
        ("layername", LAYER),
        ("provider", "ogr"),
    ):
        ET.SubElement(layer, tag).text = text
    _srs(ET.SubElement(layer, "srs"), sample.crs)
    layer.extend(_style(sample))
    extent = ET.SubElement(ET.SubElement(root, "mapcanvas"), "extent")
    around = 20 * sample.pixel_size
    x, y = [p.x for p in sample.points], [p.y for p in sample.points]
    for tag, number in (
        ("xmin", min(x) - around),
        ("ymin", min(y) - around),
        ("xmax", max(x) + around),
        ("ymax", max(y) + around),
    ):
        ET.SubElement(extent, tag).text = repr(number)
    properties = ET.SubElement(root, "properties")
    paths = ET.SubElement(properties, "Paths")
    ET.SubElement(paths, "Absolute", type="bool").text = "false"
    return _document(root)


def points_style(sample: Sample) -> bytes:
    """Write form and style of the points alone (.qml), which QGIS takes with the GeoPackage."""
    root = ET.Element("qgis", version=VERSION, styleCategories="AllStyleCategories")
    root.extend(_style(sample))
    return _document(root)


def _style(sample: Sample) -> list[ET.Element]:
    """Form with the list of values, points done and to do in two colours, pictures as map tips.

    Where the reference is a number the form has no list: QGIS takes nothing but a number for the
    field, which is a real one.
    """
    fields = ET.Element("fieldConfiguration")
    widgets: dict[str, ET.Element] = {}
    for name in (*FIXED, "reference", "interpreter", "note"):
        widget = ET.SubElement(ET.SubElement(fields, "field", name=name), "editWidget")
        listed = name == "reference" and sample.levels
        widget.set("type", "ValueMap" if listed else "TextEdit")
        widgets[name] = ET.SubElement(ET.SubElement(widget, "config"), "Option", {"type": "Map"})
    if sample.levels:
        values = ET.SubElement(widgets["reference"], "Option", {"type": "List", "name": "map"})
        for label, value in (("", NULL), *((level, level) for level in sample.levels)):
            pair = ET.SubElement(values, "Option", {"type": "Map"})
            ET.SubElement(pair, "Option", {"type": "QString", "name": label, "value": value})
    editable = ET.Element("editable")
    for name in widgets:
        ET.SubElement(editable, "field", name=name, editable=str(int(name not in FIXED)))
    tip = ET.Element("mapTip", enabled="1")
    pictures = (
        f'<img src="file:///[% @project_folder %]/chips/[% lpad("id", 5, \'0\') %]_{season}.png"'
        f' alt="{season}: no image" title="{season}">'
        for season in SEASONS
    )
    tip.text = '<p>[% "id" %]</p>' + "".join(pictures)
    told = '"reference" IS NOT NULL' + (" AND \"reference\" <> ''" if sample.levels else "")
    return [_renderer(told), fields, editable, tip]


def _renderer(told: str) -> ET.Element:
    """Draw points without a reference in red, and those with one in green."""
    renderer = ET.Element("renderer-v2", type="RuleRenderer", symbollevels="0")
    rules = ET.SubElement(renderer, "rules", key="all")
    symbols = ET.SubElement(renderer, "symbols")
    looks = (("to do", f"NOT ({told})", "215,25,28,255"), ("done", told, "26,150,65,255"))
    for number, (label, rule, colour) in enumerate(looks):
        ET.SubElement(rules, "rule", key=label, symbol=str(number), filter=rule, label=label)
        symbol = ET.SubElement(symbols, "symbol", name=str(number), type="marker", alpha="1")
        marker = ET.SubElement(symbol, "layer", {"class": "SimpleMarker", "enabled": "1"})
        options = ET.SubElement(marker, "Option", type="Map")
        for key, value in (("name", "square"), ("color", colour), ("size", "3")):
            ET.SubElement(options, "Option", type="QString", name=key, value=value)
    return renderer


def _srs(parent: ET.Element, wkt: str) -> None:
    """Tell a CRS as QGIS does."""
    crs = CRS.from_wkt(wkt)
    srs = ET.SubElement(parent, "spatialrefsys", nativeFormat="Wkt")
    ET.SubElement(srs, "wkt").text = crs.to_wkt()
    if authority := crs.to_authority():
        ET.SubElement(srs, "authid").text = ":".join(authority)
    ET.SubElement(srs, "description").text = crs.name
    ET.SubElement(srs, "geographicflag").text = str(crs.is_geographic).lower()


def _document(root: ET.Element) -> bytes:
    ET.indent(root)
    head = b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    document: bytes = ET.tostring(root, encoding="utf-8")
    return head + document
