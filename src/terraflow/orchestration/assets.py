"""The assets of a project: what Airflow's DAGs tell each other has changed."""

from __future__ import annotations

from airflow.sdk import Asset, AssetWatcher

from terraflow.orchestration.watch import Arrivals

__all__ = ["arrivals", "champion", "drift", "scenes"]


def arrivals(project: str) -> Asset:
    """Give the asset that a watcher on the triggerer updates: something new in store or source.

    Parameters
    ----------
    project : str
        The project's name, as of config/PROJECT.toml.
    """
    watcher = AssetWatcher(name=f"{project}_watcher", trigger=Arrivals(project=project))
    return _asset(project, "arrivals", [watcher])


def scenes(project: str) -> Asset:
    """Give the asset of the images in the store: `land_cover_watch` updates it."""
    return _asset(project, "scenes")


def champion(project: str) -> Asset:
    """Give the asset of the model that maps are made with: a promotion updates it."""
    return _asset(project, "champion")


def drift(project: str) -> Asset:
    """Give the asset of the drift: monitoring updates it beyond the threshold."""
    return _asset(project, "drift")


def _asset(project: str, name: str, watchers: list[AssetWatcher] | None = None) -> Asset:
    return Asset(
        name=f"{project}_{name}",
        uri=f"x-terraflow://{project}/{name}",
        group=project,
        watchers=watchers or [],
    )
