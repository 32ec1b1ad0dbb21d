"""Tell which items of a project's source wait to be ingested: `python -m` prints them as JSON."""

from __future__ import annotations

import json
import sys

from terraflow import settings
from terraflow.eo.config.project_file import load_config
from terraflow.eo.images.ingest import find_waiting
from terraflow.errors import TerraFlowError
from terraflow.storage import Storage

__all__ = ["main"]


def main(project: str) -> int:
    """Print the ids of waiting items, or why they can't be told."""
    try:
        waiting = find_waiting(load_config(project=project), Storage(settings.load()))
    except TerraFlowError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(waiting))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
