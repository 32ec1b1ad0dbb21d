"""The STAC item of a map."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pystac
from odc.geo.geobox import GeoBox
from pystac.extensions import mlm
from pystac.extensions.classification import DEFAULT_VERSION as CLASSIFICATION_VERSION
from pystac.extensions.classification import SCHEMA_URI_PATTERN as CLASSIFICATION
from pystac.extensions.projection import SCHEMA_URI as PROJECTION
from shapely import orient_polygons, set_precision, to_geojson

from terraflow.eo.config.bounds import across, jumps, smallest
from terraflow.eo.images.sources.local_files import UNDATED
from terraflow.eo.maps.map_origin import MapOrigin
from terraflow.eo.models.model import LoadedModel
from terraflow.eo.models.quality import DTYPE, quality_bands
from terraflow.eo.targets.parts import Band
from terraflow.settings import Settings

__all__ = ["map_item", "quality_uri"]

PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def map_item(
    uri: str,
    model: LoadedModel,
    items: Sequence[pystac.Item],
    *,
    geobox: GeoBox,
    origin: MapOrigin,
    settings: Settings,
) -> pystac.Item:
    """Describe a map as a STAC item.

    Parameters
    ----------
    uri : str
        Of the COG; the item is to lie beside it, with the ending .json.
    items : sequence of pystac.Item
        What the map was made of; they give start and end.

    References
    ----------
    https://github.com/stac-extensions/classification, /processing, /mlm (which replaces
    /ml-model) and /projection
    """
    footprint = geobox.footprint("EPSG:4326", npoints=5).geom
    if jumps(footprint):
        footprint = across(footprint)
    # to a tenth of a metre, and anticlockwise as RFC 7946 asks
    outline = orient_polygons(set_precision(footprint, 1e-6))
    start, end = _span(items)
    item = pystac.Item(
        id=origin.id,
        geometry=json.loads(to_geojson(outline)),
        bbox=list(smallest(part.bounds for part in getattr(outline, "geoms", [outline]))),
        datetime=None,
        start_datetime=start,
        end_datetime=end,
        properties=_properties(model, geobox, origin),
        stac_extensions=[
            PROJECTION,
            CLASSIFICATION.format(version=CLASSIFICATION_VERSION),
            PROCESSING,
            mlm.SCHEMA_URI_PATTERN.format(version=mlm.DEFAULT_VERSION),
        ],
    )
    if any(each.properties.get(UNDATED) for each in items):
        item.properties[UNDATED] = True  # start and end mean nothing then
    item.add_asset("map", _map_asset(uri, model))
    if model.config.map.quality:
        item.add_asset("quality", _quality_asset(quality_uri(uri), model))
    item.add_asset(
        "model",
        pystac.Asset(
            origin.model,
            "The model, in MLflow's registry",
            roles=["mlm:model"],
        ),
    )
    item.add_links(_links(origin, items, settings))
    item.set_self_href(uri.removesuffix(".tif") + ".json")
    return item


def _properties(model: LoadedModel, geobox: GeoBox, origin: MapOrigin) -> dict[str, Any]:
    band = _bands(model)[0]
    task = "semantic-segmentation" if band.names else "regression"
    properties: dict[str, Any] = {
        "title": f"{_title(model)} by {origin.model}",
        "gsd": abs(geobox.affine.a) if geobox.crs and geobox.crs.projected else None,
        "proj:shape": list(geobox.shape),
        "proj:transform": list(geobox.affine)[:6],
        "processing:level": "L4",
        "processing:lineage": f"Predicted pixel by pixel from {origin.items}.",
        "processing:software": {"TerraFlow": origin.version},
        "processing:expression": {"format": "mlflow-model", "expression": origin.model},
        "mlm:name": origin.model_name,
        "mlm:architecture": model.config.model.name,
        "mlm:tasks": [task],
        "mlm:input": [
            {
                "name": "features of a pixel",
                "description": ", ".join(model.info.features),
                "bands": [],
                "input": _structure("feature", len(model.info.features)),
            }
        ],
        "mlm:output": [
            {
                "name": band.description or band.name,
                "tasks": [task],
                "result": _structure(band.name, max(len(band.names), 1)),
                **({"classification:classes": _values(band)} if band.names else {}),
            }
        ],
    }
    if geobox.crs and geobox.crs.epsg:
        properties["proj:code"] = f"EPSG:{geobox.crs.epsg}"
    elif geobox.crs:
        properties |= {"proj:code": None, "proj:wkt2": geobox.crs.to_wkt()}
    properties |= {f"terraflow:{key}": value for key, value in origin.to_tags().items()}
    return {key: value for key, value in properties.items() if value is not None or ":" in key}


def _structure(kind: str, size: int) -> dict[str, Any]:
    return {"shape": [-1, size], "dim_order": ["batch", kind], "data_type": "float64"}


def _title(model: LoadedModel) -> str:
    return model.config.name.replace("-", " ").capitalize()


def _bands(model: LoadedModel) -> list[Band]:
    return model.target.bands(model.info.levels, model.config.map)


def _values(band: Band) -> list[dict[str, Any]]:
    return [
        {
            "value": value,
            "name": _slug(name),
            "description": name,
            "color_hint": band.colours[value].strip("#"),
        }
        for value, name in band.names.items()
    ]


def _map_asset(uri: str, model: LoadedModel) -> pystac.Asset:
    bands = []
    for band in _bands(model):
        fields: dict[str, Any] = {"name": band.name, "description": band.description}
        if band.unit:
            fields["unit"] = band.unit
        if band.names:
            nothing = {"name": "nodata", "description": "No data", "nodata": True}
            fields["classification:classes"] = [{"value": band.nodata, **nothing}, *_values(band)]
        nodata = band.nodata if math.isfinite(band.nodata) else str(band.nodata)
        bands.append(fields | {"data_type": model.target.dtype, "nodata": nodata})
    named = any("classification:classes" in fields for fields in bands)
    return pystac.Asset(
        "./" + uri.rpartition("/")[2],
        f"{_title(model)}: {' and '.join(band['name'] for band in bands)}",
        media_type=COG,
        roles=["data", *(["classification", "confidence"] if named else [])],
        extra_fields={"bands": bands},
    )


def quality_uri(uri: str) -> str:
    """Give the URI of the quality file of a map."""
    return uri.removesuffix(".tif") + ".quality.tif"


def _quality_asset(uri: str, model: LoadedModel) -> pystac.Asset:
    bands = [
        {
            "name": band.name,
            "description": band.description,
            "data_type": DTYPE,
            "nodata": band.nodata,
            "raster:scale": band.scale,
        }
        for band in quality_bands(model)
    ]
    return pystac.Asset(
        "./" + uri.rpartition("/")[2],
        "Where the map is sure, and where it may be applied",
        media_type=COG,
        roles=["metadata"],
        extra_fields={"bands": bands},
    )


def _links(
    origin: MapOrigin, items: Sequence[pystac.Item], settings: Settings
) -> list[pystac.Link]:
    links = [pystac.Link("derived_from", origin.items, pystac.MediaType.JSON, "Input items")]
    links += [
        pystac.Link("derived_from", href, pystac.MediaType.GEOJSON, item.id)
        for item in items
        if (href := item.get_self_href())
    ]
    if run := origin.run_id:
        url = f"{settings.mlflow_url}/api/2.0/mlflow/runs/get?run_id={run}"
        links.append(pystac.Link("via", url, pystac.MediaType.JSON, f"MLflow run {run}"))
    return links


def _span(items: Sequence[pystac.Item]) -> tuple[datetime, datetime]:
    times = [
        (
            item.common_metadata.start_datetime or item.datetime,
            item.common_metadata.end_datetime or item.datetime,
        )
        for item in items
    ]
    return min(start for start, _ in times if start), max(end for _, end in times if end)


def _slug(name: str) -> str:
    """Name a class with the letters that the classification extension allows."""
    return "".join(c if (c.isalnum() and c.isascii()) or c in "-_" else "_" for c in name) or "_"
