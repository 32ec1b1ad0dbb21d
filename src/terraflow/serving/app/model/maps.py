"""Maps as answers: of items in the store, or of a GeoTIFF that the request brings."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakKeyDictionary

import rasterio
import rio_stac
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from terraflow.eo.hooks import Hooks
from terraflow.eo.images.ingest import copy_item
from terraflow.eo.images.rasters.georeference import check_placed
from terraflow.eo.maps.map import make_map
from terraflow.eo.models.model import LoadedModel, open_model
from terraflow.errors import DataError, ServiceError, TerraFlowError, first_line
from terraflow.serving.app.model.served import Served
from terraflow.serving.app.model.table import InputError
from terraflow.settings import load
from terraflow.storage import Storage

__all__ = ["GEOTIFF", "Mapper"]

GEOTIFF = "image/tiff"
#: Stands for any time of a model whose features do not depend on it.
ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)


class Mapper:
    """Makes maps by the code of the task `map`."""

    def __init__(self) -> None:
        settings = load(running=False, strict=False)
        self._storage = Storage(settings)
        self._root = settings.data_uri
        # a model that another has taken over from is gone from here, too
        self._models: WeakKeyDictionary[Served, LoadedModel] = WeakKeyDictionary()

    def map(
        self, served: Served, body: bytes | bytearray, content_type: str, query: Mapping[str, str]
    ) -> bytes:
        """Make a map.

        Parameters
        ----------
        body : bytes
            JSON {"items": URI} of STAC items in the store; or a GeoTIFF, whose bands have the
            model's names as descriptions, or are as many and in its order.
        query : mapping
            datetime of a GeoTIFF, as 2024-06-01.

        Returns
        -------
        bytes
            A COG.

        Raises
        ------
        InputError
            The request names nothing that can be mapped by this model.
        ServiceError
            MLflow or the store is away.
        """
        model = self._model(served)
        with tempfile.TemporaryDirectory(prefix="terraflow-map-") as name:
            folder = Path(name)
            try:
                if content_type == GEOTIFF:
                    items = _item_of(folder, body, model, query.get("datetime", ""), self._storage)
                else:
                    items = self._named(body)
                output = folder / "map.tif"
                make_map(model, items, self._storage, output=str(output))
            except ServiceError:
                raise
            except TerraFlowError as error:
                raise InputError(str(error)) from error
            return output.read_bytes()

    def _model(self, served: Served) -> LoadedModel:
        if served not in self._models:
            uri = f"models:/{served.name}/{served.version}" if served.version else served.folder
            try:
                estimator = served.model.get_raw_model()
                model = open_model(
                    served.folder, uri, Hooks(), estimator=estimator, version=served.version
                )
                plain = model.config.map.model_copy(update={"quality": False})  # answered by none
                config = model.config.model_copy(update={"map": plain})
                self._models[served] = replace(model, config=config)
            except TerraFlowError as error:
                raise InputError(f"This model makes no maps: {error}") from error
        return self._models[served]

    def _named(self, body: bytes | bytearray) -> str:
        try:
            uri = json.loads(body)["items"]
        except (ValueError, KeyError, TypeError, RecursionError):
            uri = None
        if not isinstance(uri, str):
            raise InputError(
                'The request names no items; send {"items": "URI"}, or a GeoTIFF as image/tiff.'
            )
        if not uri.startswith(f"{self._root}/") or ".." in uri.split("/"):
            raise InputError(
                f"{uri[:200]} is not in the store; name items below {self._root}, or send a "
                "GeoTIFF."
            )
        return uri


def _item_of(
    folder: Path, body: bytes | bytearray, model: LoadedModel, when: str, storage: Storage
) -> str:
    """Make a STAC item of a GeoTIFF, as `ingest` would; return its path."""
    image = folder / "image.tif"
    image.write_bytes(body)
    names = dict(model.config.data.bands)
    keys = model.recipe.assets
    try:
        with rasterio.open(image, driver="GTiff") as file:
            described = [names.get(text or "", text) for text in file.descriptions]
            try:
                check_placed(file, "The GeoTIFF")
            except DataError as error:
                raise InputError(str(error)) from error
            if file.colorinterp[-1] == ColorInterp.alpha:  # it tells of pixels, and is no band
                described.pop()
            bands = _bands(described, keys)
            item = rio_stac.create_stac_item(
                file,
                input_datetime=_time(when, model),
                id="request",
                asset_name="image",
                asset_href=str(image),
            )
    except RasterioError as error:
        raise InputError(
            f"The body is no GeoTIFF that can be read: {first_line(error)}; send one as it lies on "
            "the disk (curl --data-binary @FILE)."
        ) from error
    item.assets["image"].extra_fields["bands"] = [{"name": name} for name in bands]
    mask = model.recipe.mask.asset if model.recipe.mask else ""
    return copy_item(item, keys, str(folder), storage, mask=mask)


def _bands(described: Sequence[str | None], keys: Sequence[str]) -> list[str]:
    """Name the bands of a file by the keys of the model's images."""
    if all(key in described for key in keys):
        return [name or "" for name in described]
    if not any(described) and len(described) == len(keys):
        return list(keys)
    told = ", ".join(name or "without a name" for name in described)
    raise InputError(
        f"The GeoTIFF has {len(described)} bands ({told}), and the model takes {', '.join(keys)}; "
        "describe them by these names, or send just these in this order without names."
    )


def _time(text: str, model: LoadedModel) -> datetime:
    if not text and model.config.features.composites == "whole":
        return ANY_TIME
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"The time of the image, {text[:40]!r}, is no date; send it as ?datetime=2024-06-01, "
            "since the model's features depend on it."
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
