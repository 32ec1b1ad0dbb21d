"""The digest of samples: all that they come from, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import Any, cast

import pystac

from terraflow import config as settings_files
from terraflow.eo.config.digests import code_digest
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.hooks import Hooks, hooks_digest
from terraflow.eo.images.collection import content
from terraflow.storage import Storage

__all__ = ["CODE", "samples_digest"]

#: What of the configuration decides which samples there are.
SECTIONS = {
    "seed": True,
    "data": {"bands", "scaling"},
    "grid": True,
    "cloud_mask": True,
    "labels": True,
    "features": True,
    "checks": True,
    "validation": {"block_size_px", "folds", "whole_polygons"},
}
#: What of TerraFlow's code decides which samples there are; the target names more.
CODE = (
    "terraflow.eo.features",
    "terraflow.eo.images.assets",
    "terraflow.eo.images.rasters",
    "terraflow.eo.images.sources.selection",
    "terraflow.eo.images.sources.solar_days",
    "terraflow.eo.samples",
)


def samples_digest(
    config: ProjectConfig,
    hooks: Hooks,
    items: Sequence[pystac.Item],
    labels: str,
    storage: Storage,
) -> str:
    """Digest items, labels, layers, configuration, libraries, code, and the project's hooks.

    Returns
    -------
    str
        16 hexadecimal digits.

    Raises
    ------
    StorageError
        Labels or layers in the store can't be read.
    """
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(content(item), sort_keys=True).encode())
    for uri in (labels, *(layer.path for layer in config.features.layers.values())):
        digest.update(_file_digest(uri, storage).encode())
    digest.update(config.model_dump_json(include=cast("Any", SECTIONS)).encode())
    lock = settings_files.project_root() / "requirements.lock"
    digest.update(lock.read_bytes() if lock.exists() else b"")
    digest.update(code_digest([*CODE, *hooks.target.code]).encode())
    digest.update(hooks_digest(hooks).encode())
    return digest.hexdigest()[:16]


def _file_digest(uri: str, storage: Storage) -> str:
    """Digest of a file with those beside it of the same name, as a Shapefile has, or of a folder.

    What can't be read has its address for a digest: the step that reads it says so in a sentence.
    """
    path = Path(uri)
    if "://" in uri:
        return storage.digest(uri)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    else:
        beside = path.parent.glob(f"{escape(path.stem)}.*")
        files = sorted(file for file in beside if file.is_file())
    return " ".join([uri, *(storage.digest(str(file)) for file in files)])
