"""Where a map comes from: the record that is written into its file and into its STAC item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pystac

import terraflow
from terraflow.eo.built_in import DEFAULT
from terraflow.eo.config.digests import value_digest
from terraflow.eo.config.record import Record
from terraflow.eo.images.sources.selection import AREA
from terraflow.eo.models.model import LoadedModel
from terraflow.tracking import runs

__all__ = ["MapOrigin", "make_origin"]


class MapOrigin(Record):
    """What tells a map's origin, and makes it again: the same at any time of day.

    Attributes
    ----------
    model : str
        URI with the version, not with an alias, which will move.
    code_commit, lock_digest, data_digest, seed, scores
        Of the training; "" where not known.
    items, items_digest : str
        What was mapped.
    config_digest : str
        Of the model's configuration.
    version, map_code_commit, map_lock_digest : str
        Of the mapping.
    target, hooks_digest : str
        Of the model.
    note : str
        What a reader must be told first, or "".
    """

    model: str
    model_name: str
    model_version: str = ""
    run_id: str = ""
    code_commit: str = ""
    lock_digest: str = ""
    data_digest: str = ""
    seed: str = ""
    scores: dict[str, float] = {}
    items: str
    items_digest: str
    config_digest: str
    version: str
    map_code_commit: str = ""
    map_lock_digest: str = ""
    target: str = DEFAULT.name
    hooks_digest: str = ""
    note: str = ""

    def to_tags(self) -> dict[str, str]:
        """Return all that is known as text by key, each score under its own name."""
        values = self.to_dict()
        scores = {name: str(value) for name, value in values.pop("scores").items()}
        return {key: str(value) for key, value in values.items() if value != ""} | scores

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> MapOrigin:
        """Read what `to_tags` returned, also of an older version: unknown numbers are scores.

        Raises
        ------
        ValueError
            A key that every map has is missing.
        """
        known = {key: value for key, value in tags.items() if key in cls.model_fields}
        others = {key: value for key, value in tags.items() if key not in known}
        return cls.model_validate(
            {"record_version": 0}
            | known
            | {"scores": {k: v for k, v in others.items() if _is_number(v)}}
        )

    @property
    def id(self) -> str:
        """Name of the map, by model and items: the same for the same ones."""
        model = f"v{self.model_version}" if self.model_version else "run"
        digest = value_digest([self.model, self.run_id or None, self.items_digest])
        return f"{self.model_name}-{model}-{digest[:12]}"


def make_origin(model: LoadedModel, items_uri: str, items: Sequence[pystac.Item]) -> MapOrigin:
    """Collect what tells the origin of a map of items by a model."""
    info, now = model.info, runs.provenance()
    return MapOrigin(
        model=_pinned_uri(model),
        model_name=model.config.name,
        model_version=model.version,
        run_id=model.run_id,
        code_commit=info.code_commit,
        lock_digest=info.lock_digest,
        data_digest=info.data_digest,
        seed=str(info.seed),
        scores=info.scores,
        items=items_uri,
        items_digest=value_digest([_identity(item) for item in items]),
        config_digest=value_digest(info.config),
        version=terraflow.__version__,
        map_code_commit=now.get("code_commit", ""),
        map_lock_digest=now.get("lock_digest", ""),
        target=info.hooks.target,
        hooks_digest=info.hooks.digest,
        note=info.note,
    )


def _pinned_uri(model: LoadedModel) -> str:
    if not model.version:
        return model.uri
    name = model.uri.removeprefix("models:/").partition("@")[0].partition("/")[0]
    return f"models:/{name}/{model.version}"


def _identity(item: pystac.Item) -> list[Any]:
    """List what of an item decides on the map."""
    assets = {key: [a.href, a.extra_fields] for key, a in item.assets.items()}
    area = item.properties.get(AREA)
    return [item.id, str(item.datetime), assets, *([area] if area else [])]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
