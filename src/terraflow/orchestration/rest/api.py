"""Airflow's REST API: log in, ask, and turn what goes wrong into sentences."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from terraflow.console import command, say
from terraflow.credentials import ADMIN, read_secrets
from terraflow.errors import ServiceError
from terraflow.settings import Settings

__all__ = ["AirflowApi", "RefusedError", "first_pause_s", "path_of"]

#: Rows of one answer; Airflow gives no more.
PAGE = 100
#: What a server that is being restarted answers.
RESTARTING = (502, 503, 504)
#: A fault of a writing request that may pass: SQLite is locked longer than Airflow waits for it.
INTERNAL_ERROR, TRIES_AT_500 = 500, 3
#: Pause before the second try of a GET; each further one is twice as long.
first_pause_s = 0.25
#: A pause as long as this is told.
TELL_PAUSE_S = 4.0


class RefusedError(ServiceError):
    """Airflow answered, but not with what was asked for.

    Attributes
    ----------
    status : int
        Of HTTP.
    detail : str
        Airflow's reason in its own words.
    """

    def __init__(self, message: str, *, status: int, detail: str) -> None:
        super().__init__(message)
        self.status, self.detail = status, detail


class AirflowApi:
    """A login at Airflow's API server, to be used in a `with`.

    Parameters
    ----------
    settings : Settings
        Of the running stack.
    timeout_s : float
        Of one request.
    tries : int
        Of a GET, and of what is told to be repeatable, while the server does not answer.
    transport : httpx.BaseTransport, optional
        Instead of the network.

    Raises
    ------
    ServiceError
        Airflow does not answer, or refuses the login.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        timeout_s: float = 30.0,
        tries: int = 8,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.settings, self.tries = settings, tries
        self._told = False
        self._client = httpx.Client(
            base_url=settings.airflow_url, timeout=timeout_s, trust_env=False, transport=transport
        )

    def __enter__(self) -> AirflowApi:
        try:
            self._log_in()
        except BaseException:
            self._client.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def call(self, method: str, path: str, *, again: bool = False, **options: Any) -> Any:
        """Ask for a path below /api/v2.

        Parameters
        ----------
        method, path : str
            As "GET", "/dags".
        again : bool
            Whether a request that is no GET may be repeated.
        options
            As those of `httpx.Client.request`: json, params.

        Returns
        -------
        object
            What Airflow answered; None where that is empty.

        Raises
        ------
        RefusedError
            Airflow refused it.
        ServiceError
            Airflow does not answer, or not with JSON.
        """
        tries = self.tries if again or method == "GET" else 1
        answer = self._ask(method, f"/api/v2{path}", tries, **options)
        if answer.status_code == 401:  # a login is good for a day, and a person may take longer
            self._log_in()
            answer = self._ask(method, f"/api/v2{path}", tries, **options)
        see = command("logs", "airflow-api")
        if answer.is_error:
            detail = _detail(answer)
            raise RefusedError(
                f"Airflow answered {method} {path} with status {answer.status_code}: "
                f"{detail[:300]}; see `{see}`.",
                status=answer.status_code,
                detail=detail,
            )
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            raise ServiceError(
                f"Airflow answered {method} {path} with {answer.text[:80]!r}, where JSON was "
                f"expected; see `{see}`."
            ) from error

    def rows(self, path: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Give all rows of a collection, page by page.

        Parameters
        ----------
        key : str
            Under which the answer holds them, as "dags".
        params
            Of the query.
        """
        offset = 0
        while True:
            found = self.call("GET", path, params={"limit": PAGE, "offset": offset, **params})
            page = list(found[key])
            yield from page
            offset += len(page)
            total = found.get("total_entries")
            last = len(page) < params.get("limit", PAGE) if total is None else offset >= total
            if not page or last:
                return

    def _log_in(self) -> None:
        password = read_secrets(self.settings)["airflow_password"]
        body = {"username": ADMIN, "password": password}
        answer = self._ask("POST", "/auth/token", 1, json=body)
        if answer.status_code != 201:
            raise ServiceError(
                f"Airflow refused the login of {ADMIN} with status {answer.status_code}; restart "
                f"it with `{command('down')}` and `{command('up')}`."
            )
        self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _ask(self, method: str, path: str, tries: int, **options: Any) -> httpx.Response:
        for attempt in range(tries):
            last = attempt == tries - 1
            try:
                answer = self._client.request(method, path, **options)
                passing = answer.status_code in RESTARTING or (
                    method != "GET"
                    and answer.status_code == INTERNAL_ERROR
                    and attempt < TRIES_AT_500 - 1
                )
                if last or not passing:
                    return answer
            except httpx.TransportError as error:
                if last:
                    raise ServiceError(
                        f"Airflow does not answer at {self.settings.airflow_url} ({error}); start "
                        f"the stack with `{command('up')}`, or see `{command('status')}`."
                    ) from error
            pause_s = first_pause_s * 2.0**attempt
            if pause_s >= TELL_PAUSE_S and not self._told:
                self._told = True
                say(f"Airflow does not answer at {self.settings.airflow_url}; waiting for it")
            time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")


def path_of(dag_id: str, *more: str) -> str:
    """Write a path below a DAG, whatever characters the ids have.

    Examples
    --------
    >>> path_of("training", "dagRuns", "manual__1+2")
    '/dags/training/dagRuns/manual__1%2B2'
    """
    return "/".join(["/dags", *(quote(word, safe=":~") for word in (dag_id, *more))])


def _detail(answer: httpx.Response) -> str:
    """Give Airflow's reason in one line: `detail` is a sentence, or a list of wrong fields."""
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text
    if isinstance(detail, list):
        detail = "; ".join(
            f"{'.'.join(map(str, row.get('loc', ())))}: {row.get('msg', '')}" for row in detail
        )
    elif isinstance(detail, dict):
        detail = detail.get("message") or detail.get("reason") or str(detail)
    return " ".join(str(detail).split()).rstrip(".")
