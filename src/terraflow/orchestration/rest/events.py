"""Tell Airflow what happened, as far as it listens: an asset has changed, why a run was started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from terraflow.orchestration.rest.api import AirflowApi, path_of
from terraflow.settings import Settings

__all__ = ["announce", "note_run"]

TIMEOUT_S = 5.0
#: Most characters of a note.
NOTE_LENGTH = 1000


def announce(
    settings: Settings,
    asset_name: str,
    extra: Mapping[str, Any],
    *,
    transport: httpx.BaseTransport | None = None,
) -> bool:
    """Post an event of an asset, which starts the DAGs that are scheduled by it.

    Parameters
    ----------
    asset_name : str
        As land_cover_champion.
    extra : mapping
        What the DAG runs are told: model, why.
    transport : httpx.BaseTransport, optional
        Instead of the network.

    Returns
    -------
    bool
        False where Airflow does not run, does not know the asset, or refuses.
    """
    try:
        with AirflowApi(settings, timeout_s=TIMEOUT_S, tries=1, transport=transport) as api:
            found = api.rows("/assets", "assets", name_pattern=asset_name)
            ids = [asset["id"] for asset in found if asset["name"] == asset_name]
            if not ids:
                return False
            body = {"asset_id": ids[0], "extra": dict(extra)}
            api.call("POST", "/assets/events", json=body)
    except Exception:  # what was done before stays done, whatever Airflow answers
        return False
    return True


def note_run(
    settings: Settings,
    dag_id: str,
    run_id: str,
    note: str,
    *,
    transport: httpx.BaseTransport | None = None,
) -> bool:
    """Write the note of a DAG run, which its page shows.

    Parameters
    ----------
    note : str
        Cut where Airflow would refuse it.
    transport : httpx.BaseTransport, optional
        Instead of the network.

    Returns
    -------
    bool
        False where Airflow does not answer, or refuses.
    """
    try:
        with AirflowApi(settings, timeout_s=TIMEOUT_S, tries=1, transport=transport) as api:
            path, mask = path_of(dag_id, "dagRuns", run_id), {"update_mask": "note"}
            api.call("PATCH", path, params=mask, json={"note": note[:NOTE_LENGTH]})
    except Exception:  # a run does its work with and without a note
        return False
    return True
