"""What a DAG run was started for, and where its results can be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from airflow.sdk import Context

    from terraflow.settings import Settings

__all__ = ["event_extras", "event_inputs", "event_whys", "order", "result_link"]


def event_extras(context: Context) -> Iterator[dict[str, Any]]:
    """Give what each asset event told that started this DAG run, the oldest first."""
    events = context.get("triggering_asset_events") or {}
    listed = [event for each in events.values() for event in each]
    for event in sorted(listed, key=lambda event: event.timestamp):
        yield dict(event.extra or {})


def event_whys(context: Context) -> str:
    """Write what the asset events say of why they were sent; "" where nothing is said."""
    whys = [str(extra["why"]) for extra in event_extras(context) if extra.get("why")]
    return " ".join(dict.fromkeys(whys))


def event_inputs(context: Context) -> dict[str, Any]:
    """Make inputs for a step of the asset events that started this DAG run.

    Returns
    -------
    dict
        collections, URIs of new images, where there are any; why, sentences.
    """
    extras = list(event_extras(context))
    collections = [uri for extra in extras for uri in extra.get("collections", ())]
    found: dict[str, Any] = {"collections": list(dict.fromkeys(collections))} if collections else {}
    run = context["dag_run"]
    started = f"Run {run.run_id} of {run.dag_id} in Airflow"
    why = event_whys(context)
    return found | {"why": f"{started}, since: {why}" if why else f"{started}."}


def order(context: Context) -> str:
    """Name what was ordered: all tries of a task in a DAG run have the same name."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}"


def result_link(outputs: Mapping[str, Any], settings: Settings) -> str:
    """Give the page of an MLflow run, or of a map in MinIO's console; "" where there is none."""
    if url := outputs.get("url"):
        return str(url)
    uri = outputs.get("map") or ""
    if settings.store != "minio" or not isinstance(uri, str) or not uri.startswith("s3://"):
        return ""
    bucket, _, key = uri.removeprefix("s3://").rpartition("/")[0].partition("/")
    console = f"http://{settings.host}:{settings.minio.console_port}"
    return f"{console}/browser/{bucket}/{quote(key + '/', safe='')}"
