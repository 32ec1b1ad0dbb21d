from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from terraflow.process.mlflow_guard.login import Login

TOKEN = "t0ken-" + "x" * 37
HOST = "http://127.0.0.1:5000"


async def _echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"in: {request.url.path}?{request.url.query}")


INNER = Starlette(routes=[Route("/{path:path}", _echo, methods=["GET", "POST", "PUT", "OPTIONS"])])


def ask(
    path: str = "/api/2.0/mlflow/experiments/search",
    method: str = "GET",
    *,
    cookies: dict[str, str] | None = None,
    **headers: str,
) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(Login(INNER, TOKEN))
        async with httpx.AsyncClient(transport=transport, base_url=HOST, cookies=cookies) as client:
            named = {k.replace("_", "-"): value.encode("latin-1") for k, value in headers.items()}
            return await client.request(method, path, headers=named)

    return asyncio.run(send())


def log_in(query: str = f"?token={TOKEN}") -> httpx.Response:
    return ask(f"/{query}")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/2.0/mlflow/experiments/search",
        "/ajax-api/2.0/mlflow/upload-artifact",
        "/get-artifact?path=x&run_uuid=y",
        "/api/2.0/mlflow-artifacts/artifacts/1/x",
        "/version",
        "/static-files/x.js",
        "/health/",
        "//health",
    ],
)
def test_without_a_token_nothing_is_answered(path: str, method: str) -> None:
    answer = ask(path, method)
    assert answer.status_code == 401
    assert "in:" not in answer.text


def test_health_is_answered_to_all() -> None:
    assert ask("/health").text.startswith("in: /health")


def test_bearer_token_lets_in() -> None:
    assert ask(Authorization=f"Bearer {TOKEN}").status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer ",
        "Bearer",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
    ],
)
def test_wrong_token_is_refused_in_the_form_of_mlflow(given: str) -> None:
    answer = ask(Authorization=given)
    assert answer.status_code == 401
    assert answer.json()["error_code"] == "UNAUTHENTICATED"
    assert TOKEN not in answer.text


def test_wrong_token_that_is_no_ascii_is_refused() -> None:
    async def send() -> int:
        transport = httpx.ASGITransport(Login(INNER, TOKEN))
        async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
            headers = {b"Authorization": b"Bearer \xff\xfe", b"Cookie": b"mlflow-\xff=\xfe; =;"}
            return (await client.get("/version", headers=headers)).status_code

    assert asyncio.run(send()) == 401


def test_link_sets_a_cookie_that_lets_the_browser_in() -> None:
    answer = log_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    (name,) = answer.cookies
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert "samesite=lax" in answer.headers["set-cookie"].lower()
    assert ask("/", cookies=dict(answer.cookies)).text.startswith("in: /")
    assert ask("/", cookies={name: answer.cookies[name] + "0"}).status_code == 401
    assert ask("/", cookies={name: TOKEN}).status_code == 401


@pytest.mark.parametrize(
    "cookies",
    [
        'prefs={"theme":"dark"}; %s',
        "%s; prefs={}",
        "k=\xe9; %s",
        "x=a b; %s",
        "%s; x=a b",
        ";;=; %s",
    ],
)
def test_cookies_of_other_programs_do_not_hide_ours(cookies: str) -> None:
    ((name, value),) = log_in().cookies.items()
    assert ask("/", cookie=cookies % f"{name}={value}").text.startswith("in: /")
    assert ask("/", cookie=cookies % f"{name}={value[:-1]}").status_code == 401


def test_cookie_holds_no_token_and_differs_between_stacks() -> None:
    answer = log_in()
    assert TOKEN not in answer.headers["set-cookie"]
    other = Login(INNER, "another")
    assert (other.cookie_name, other.cookie) != (Login(INNER, TOKEN).cookie_name, "")
    assert other.cookie_name not in answer.headers["set-cookie"]


def test_link_keeps_the_rest_of_the_address() -> None:
    assert log_in(f"?a=1&token={TOKEN}&b=%26").headers["location"] == "/?a=1&b=%26"


@pytest.mark.parametrize("query", ["?token=", "?token=x", f"?token={TOKEN}x", "?token"])
def test_link_with_a_wrong_token_sets_nothing(query: str) -> None:
    answer = log_in(query)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_link_is_taken_out_of_what_the_server_logs() -> None:
    for query in (f"token={TOKEN}", "token=wrong", f"a=1&token={TOKEN}"):
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": query.encode(),
            "headers": [],
        }
        asyncio.run(Login(INNER, TOKEN)(scope, _nothing, _take))
        assert b"token" not in scope["query_string"]


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request"}


async def _take(message: Any) -> None:
    del message


def test_browser_without_a_cookie_gets_a_page_that_asks_for_the_token() -> None:
    answer = ask("/", Accept="text/html,application/xhtml+xml")
    assert answer.status_code == 401
    assert "--show-credentials" in answer.text
    assert answer.headers["cache-control"] == "no-store"


ORIGINS = [
    "http://127.0.0.1:9999",
    "http://localhost:5000",
    "http://[::1]:5000",
    "https://evil.example",
    "http://127.0.0.1:5000.evil.example",
    "http://127.0.0.1",
    "null",
    "",
]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("origin", ORIGINS)
def test_page_of_another_server_is_refused_whatever_it_sends(origin: str, method: str) -> None:
    for path in ("/api/2.0/mlflow/runs/create", "/health", "/get-artifact"):
        answer = ask(path, method, Origin=origin, Authorization=f"Bearer {TOKEN}")
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
def test_what_another_page_embeds_is_refused_and_its_link_is_not(site: str) -> None:
    cookies = dict(log_in().cookies)
    embedded = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "no-cors"}
    assert ask("/get-artifact", cookies=cookies, **embedded).status_code == 403
    clicked = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate"}
    assert ask("/", cookies=cookies, **clicked).status_code == 200


def test_own_page_is_let_in() -> None:
    cookies = dict(log_in().cookies)
    own = {"Origin": HOST, "Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"}
    assert ask(method="POST", cookies=cookies, **own).status_code == 200


def test_websocket_without_a_token_is_closed() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/ws", "query_string": b"", "headers": []}
    asyncio.run(Login(INNER, TOKEN)(scope, _nothing, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
