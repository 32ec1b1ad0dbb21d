"""The model that promotion chose."""

from __future__ import annotations

from terraflow.console import command
from terraflow.errors import NothingToDoError
from terraflow.settings import Settings
from terraflow.tracking import registry

__all__ = ["ALIAS", "find_champion"]

ALIAS = "champion"


def find_champion(name: str, settings: Settings) -> str:
    """Give the URI of the version that is the champion now, as models:/land-cover/3.

    Raises
    ------
    NothingToDoError
        There is none.
    ServiceError, StorageError
        MLflow does not answer, or fails on the way.
    """
    with registry.connected(settings):
        version = registry.find_by_alias(name, ALIAS)
    if version is None:
        raise NothingToDoError(
            f"There is no champion of {name} yet; `{command('train')}` trains a model, and the "
            "first one becomes it."
        )
    return f"models:/{name}/{version.version}"
