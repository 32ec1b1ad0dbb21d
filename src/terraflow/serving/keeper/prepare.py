"""Get a model ready to be served, in a process that ends: what it imports is gone with it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from terraflow import config, settings
from terraflow.credentials import store_environment
from terraflow.errors import ServiceError, StorageError, TerraFlowError, first_line
from terraflow.files import write_private
from terraflow.serving.models import fetch, find_model
from terraflow.settings import Settings
from terraflow.stack.model_server import ServedModel, Way

__all__ = ["main"]


def main() -> int:
    """Prepare the model that an alias points at, or write into the registry what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="in the registry")
    parser.add_argument("version")
    parser.add_argument("--output", help="file for the model, or for why there is none")
    parser.add_argument("--tag", help="write this into the version's tag, and do nothing else")
    words = parser.parse_args()
    stack = settings.load(running=False)
    if words.tag:
        return _tag(stack, words.name, words.version, words.tag)
    told: dict[str, Any]
    try:
        config.export(store_environment(stack))
        found = find_model(stack, "", f"models:/{words.name}/{words.version}")
        served = ServedModel.read(stack)
        told = {"model": asdict(fetch(stack, found, served.way if served else Way()))}
    except TerraFlowError as error:
        passing = isinstance(error, ServiceError | StorageError)
        told = {"problem": str(error), "passing": passing}
    write_private(Path(words.output), json.dumps(told))
    return 0


def _tag(stack: Settings, name: str, version: str, text: str) -> int:
    from mlflow import MlflowClient  # noqa: PLC0415 - slow

    from terraflow.tracking import runs  # noqa: PLC0415

    try:
        runs.connect(stack)
        MlflowClient().set_model_version_tag(name, version, "serving", text[:5000])
    except Exception as error:  # it is told in the log and by status, too
        print(f"Version {version} of {name} has no tag: {first_line(error)}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
