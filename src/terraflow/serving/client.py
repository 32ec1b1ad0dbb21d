"""Ask the running model server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from terraflow import config
from terraflow.console import command
from terraflow.credentials import read_token
from terraflow.errors import ConfigError, ServiceError
from terraflow.settings import Settings
from terraflow.stack.model_server import MODEL_SERVER, model_server_url

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ask", "predict"]

PARQUET = "application/vnd.apache.parquet"


def predict(settings: Settings, path: str) -> list[str]:
    """Send a file to the running model server.

    Parameters
    ----------
    path : str
        CSV with a header, or JSON: a list of records, or one of MLflow's forms.

    Returns
    -------
    list of str
        A prediction for each row.

    Raises
    ------
    ConfigError
        The file can't be read, or does not fit the model.
    ServiceError
        No model server answers.
    """
    body, content_type = _read_input(config.user_path(path))
    return _ask(settings, body, content_type, path)


def ask(settings: Settings, table: DataFrame) -> list[str]:
    """Send a table to the running model server.

    Parameters
    ----------
    table : DataFrame
        The model's columns.

    Returns
    -------
    list of str
        A prediction for each row.

    Raises
    ------
    ConfigError
        The table does not fit the model.
    ServiceError
        No model server answers.
    """
    return _ask(settings, table.to_parquet(index=False), PARQUET, "The table")


def _ask(settings: Settings, body: bytes, content_type: str, name: str) -> list[str]:
    import httpx  # noqa: PLC0415 - only here

    url = model_server_url(settings)
    if not url:
        serve = command("serve", "--run-id", "ID")
        raise ServiceError(f"No model server answers; start one with `{serve}`.")
    try:
        answer = httpx.post(
            f"{url}/invocations",
            content=body,
            headers={"Content-Type": content_type} | _authorization(settings),
            timeout=60,
            trust_env=False,
        )
    except httpx.TransportError as error:
        raise ServiceError(
            f"The model server at {url} did not answer: {error}; see "
            f"`{command('logs', MODEL_SERVER)}`."
        ) from error
    if answer.status_code in {400, 413}:
        raise ConfigError(  # whose message ends with what to do
            f"{name} does not fit the model: {answer.json()['message']}"
        )
    if answer.is_error:
        raise ServiceError(
            f"The model server answered with status {answer.status_code}{_reason(answer.content)}; "
            f"see `{command('logs', MODEL_SERVER)}`."
        )
    document = answer.json()
    if note := document.get("note"):
        print(note, file=sys.stderr)  # noqa: T201 - beside the predictions, not among them
    return [str(value) for value in document["predictions"]]


def _reason(content: bytes) -> str:
    """Say what the server said, without the remedy, where it said something."""
    try:
        message = json.loads(content)["message"]
        return f" ({message.rpartition('; ')[0] or message})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _authorization(settings: Settings) -> dict[str, str]:
    token = read_token(settings)
    return {"Authorization": f"Bearer {token}"} if token else {}


def _read_input(path: Path) -> tuple[bytes, str]:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}; name a CSV or JSON.") from error
    if path.suffix.lower() == ".csv":
        return body, "text/csv"
    if path.suffix.lower() != ".json":
        raise ConfigError(f"{path.name} is neither .csv nor .json; convert it to one of these.")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}; correct it.") from error
    if isinstance(document, list):
        document = {"dataframe_records": document}
    return json.dumps(document).encode(), "application/json"
