"""Where a map comes from: the metadata inside its file, and its STAC item."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

import pystac
from odc.geo.geobox import GeoBox
from pystac.extensions import mlm
from pystac.extensions.classification import DEFAULT_VERSION as CLASSIFICATION_VERSION
from pystac.extensions.classification import SCHEMA_URI_PATTERN as CLASSIFICATION
from pystac.extensions.projection import SCHEMA_URI as PROJECTION
from shapely import orient_polygons, set_precision, to_geojson

from terraflow.eo.images.local_files import UNDATED
from terraflow.eo.maps.map_file import BANDS, NODATA
from terraflow.eo.models.model import LoadedModel
from terraflow.eo.training.figures import class_colours
from terraflow.settings import Settings
from terraflow.tracking import runs as tracking

__all__ = ["map_id", "map_item", "map_metadata", "pinned_uri"]

PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def pinned_uri(model: LoadedModel) -> str:
    """Name a model by its version, not by an alias, which will move."""
    if not model.version:
        return model.uri
    name = model.uri.removeprefix("models:/").partition("@")[0].partition("/")[0]
    return f"models:/{name}/{model.version}"


def map_metadata(
    model: LoadedModel, items_uri: str, items: Sequence[pystac.Item]
) -> dict[str, str]:
    """Collect what tells a map's origin, and makes it again: the same at any time of day.

    Returns
    -------
    dict
        model, run_id, data_digest, seed, code_commit and lock_digest of the training, the scores,
        items, items_digest, config_digest, and version, map_code_commit and map_lock_digest of the
        mapping; without those that are not known.
    """
    told, now = model.metadata, tracking.provenance()
    values = {
        "model": pinned_uri(model),
        "model_name": model.project.name,
        "model_version": model.version,
        "run_id": model.run_id,
        "code_commit": told.get("code_commit"),
        "lock_digest": told.get("lock_digest"),
        "data_digest": told.get("data_digest"),
        "seed": told.get("seed", model.project.seed),
        **told.get("scores", {}),
        "items": items_uri,
        "items_digest": _digest([_identity(item) for item in items]),
        "config_digest": _digest(model.project.model_dump(mode="json")),
        "version": version("terraflow"),
        "map_code_commit": now.get("code_commit"),
        "map_lock_digest": now.get("lock_digest"),
        "note": told.get("note"),
    }
    return {key: str(value) for key, value in values.items() if value not in (None, "")}


def map_id(metadata: dict[str, str]) -> str:
    """Name a map by model and items: the same for the same ones."""
    model = f"v{metadata['model_version']}" if "model_version" in metadata else "run"
    digest = _digest([metadata.get(key) for key in ("model", "run_id", "items_digest")])
    return f"{metadata['model_name']}-{model}-{digest[:12]}"


def map_item(
    uri: str,
    model: LoadedModel,
    items: Sequence[pystac.Item],
    *,
    geobox: GeoBox,
    metadata: dict[str, str],
    settings: Settings,
) -> pystac.Item:
    """Describe a map as a STAC item.

    Parameters
    ----------
    uri : str
        Of the COG; the item is to lie beside it, with the ending .json.
    items : sequence of pystac.Item
        What the map was made of; they give start and end.
    metadata : dict
        As `map_metadata` gives it.

    References
    ----------
    https://github.com/stac-extensions/classification, /processing, /mlm (which replaces
    /ml-model) and /projection
    """
    footprint = geobox.footprint("EPSG:4326", npoints=5)
    # to a tenth of a metre, and anticlockwise as RFC 7946 asks
    outline = orient_polygons(set_precision(footprint.geom, 1e-6))
    start, end = _span(items)
    item = pystac.Item(
        id=map_id(metadata),
        geometry=json.loads(to_geojson(outline)),
        bbox=list(outline.bounds),
        datetime=None,
        start_datetime=start,
        end_datetime=end,
        properties=_properties(model, geobox, metadata),
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
    item.add_asset("model", pystac.Asset(
        metadata["model"], "The model, in MLflow's registry", roles=["mlm:model"],
    ))  # fmt: skip
    item.add_links(_links(metadata, items, settings))
    item.set_self_href(uri.removesuffix(".tif") + ".json")
    return item


def _properties(model: LoadedModel, geobox: GeoBox, metadata: dict[str, str]) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "title": f"Land cover by {metadata['model']}",
        "gsd": abs(geobox.affine.a) if geobox.crs and geobox.crs.projected else None,
        "proj:shape": list(geobox.shape),
        "proj:transform": list(geobox.affine)[:6],
        "processing:level": "L4",
        "processing:lineage": f"Classified pixel by pixel from {metadata['items']}.",
        "processing:software": {"TerraFlow": metadata["version"]},
        "processing:expression": {"format": "mlflow-model", "expression": metadata["model"]},
        "mlm:name": metadata["model_name"],
        "mlm:architecture": model.project.model.name,
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:input": [
            {
                "name": "features of a pixel",
                "description": ", ".join(model.features),
                "bands": [],
                "input": _structure("feature", len(model.features)),
            }
        ],
        "mlm:output": [
            {
                "name": "probability of each class",
                "tasks": ["semantic-segmentation"],
                "result": _structure("class", len(model.classes)),
                "classification:classes": _classes(model),
            }
        ],
    }
    if geobox.crs and geobox.crs.epsg:
        properties["proj:code"] = f"EPSG:{geobox.crs.epsg}"
    elif geobox.crs:
        properties |= {"proj:code": None, "proj:wkt2": geobox.crs.to_wkt()}
    properties |= {f"terraflow:{key}": value for key, value in metadata.items()}
    return {key: value for key, value in properties.items() if value is not None or ":" in key}


def _structure(kind: str, size: int) -> dict[str, Any]:
    return {"shape": [-1, size], "dim_order": ["batch", kind], "data_type": "float64"}


def _classes(model: LoadedModel) -> list[dict[str, Any]]:
    colours = class_colours(model.classes, model.project)
    return [
        {"value": i, "name": _slug(name), "description": name, "color_hint": colour.strip("#")}
        for i, (name, colour) in enumerate(zip(model.classes, colours, strict=True), 1)
    ]


def _map_asset(uri: str, model: LoadedModel) -> pystac.Asset:
    nothing = {"value": NODATA, "name": "nodata", "description": "No data", "nodata": True}
    common = {"data_type": "uint8", "nodata": NODATA}
    classes, confidence = BANDS
    bands = [
        {
            "name": classes,
            "description": "Number of the class",
            "classification:classes": [nothing, *_classes(model)],
            **common,
        },
        {
            "name": confidence,
            "description": "Probability of the class in per cent",
            "unit": "%",
            **common,
        },
    ]
    return pystac.Asset(
        "./" + uri.rpartition("/")[2],
        "Land cover and confidence",
        media_type=COG,
        roles=["data", "classification", "confidence"],
        extra_fields={"bands": bands},
    )


def _links(
    metadata: dict[str, str], items: Sequence[pystac.Item], settings: Settings
) -> list[pystac.Link]:
    links = [pystac.Link("derived_from", metadata["items"], pystac.MediaType.JSON, "Input items")]
    links += [
        pystac.Link("derived_from", href, pystac.MediaType.GEOJSON, item.id)
        for item in items
        if (href := item.get_self_href())
    ]
    if run := metadata.get("run_id"):
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


def _identity(item: pystac.Item) -> list[Any]:
    """List what of an item decides on the map."""
    assets = {key: [a.href, a.extra_fields] for key, a in item.assets.items()}
    return [item.id, str(item.datetime), assets]


def _slug(name: str) -> str:
    """Name a class with the letters that the classification extension allows."""
    return "".join(c if (c.isalnum() and c.isascii()) or c in "-_" else "_" for c in name) or "_"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
