"""Where the images of a project lie in the store; nothing here reads one."""

from __future__ import annotations

from collections.abc import Iterable

from terraflow.console import command
from terraflow.errors import NothingToDoError
from terraflow.storage import Storage, join

__all__ = ["collections_since", "latest_collection", "list_collections", "project_root"]


def project_root(name: str, storage: Storage) -> str:
    """Give the URI of a project's part of the store."""
    return join(storage.settings.data_uri, name)


def list_collections(name: str, storage: Storage) -> list[str]:
    """List what `ingest` wrote, the latest last.

    Raises
    ------
    StorageError
        The store does not answer.
    """
    found = storage.list_folder(project_root(name, storage))
    return [
        uri
        for _, uri in sorted((modified, uri) for uri, modified in found.items())
        if uri.rpartition("/")[2].startswith("collection-") and uri.endswith(".json")
    ]


def latest_collection(name: str, storage: Storage) -> str:
    """Give the collection that `ingest` wrote last.

    Raises
    ------
    NothingToDoError
        There is none.
    StorageError
        The store does not answer.
    """
    found = list_collections(name, storage)
    if not found:
        raise NothingToDoError(
            f"There are no images of {name} in the store yet; `{command('ingest')}` brings them."
        )
    return found[-1]


def collections_since(named: Iterable[str], name: str, storage: Storage) -> list[str]:
    """Give collections of the store with all that `ingest` wrote after the first of them.

    Who was told of some may not have been told of the others yet.

    Raises
    ------
    StorageError
        The store does not answer.
    """
    wanted, stored = list(dict.fromkeys(named)), list_collections(name, storage)
    first = min((stored.index(uri) for uri in wanted if uri in stored), default=len(stored))
    return [*(uri for uri in wanted if uri not in stored), *stored[first:]]
