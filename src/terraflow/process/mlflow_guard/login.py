"""Who may ask MLflow's server: whoever has its token.

Programs send it as `Authorization: Bearer TOKEN`, which MLflow's clients do with
MLFLOW_TRACKING_TOKEN. A browser comes by a link with `?token=TOKEN` once, and keeps a cookie. Pages
of other servers may not ask at all, those of this machine included, which MLflow itself would let:
a browser tells where a request comes from by the headers Origin [1]_ and Sec-Fetch-Site [2]_.

References
----------
.. [1] https://www.rfc-editor.org/rfc/rfc6454
.. [2] https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

import hashlib
import hmac
import json
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Login"]

#: What is answered to everybody: that the server lives.
OPEN_PATHS = ("/health",)
#: Of the cookie: 30 days.
MAX_AGE_S = 30 * 24 * 3600
PAGE = """<!DOCTYPE html>
<html lang="en"><head><title>MLflow: log in</title><style>
body { font-family: sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em }
</style></head><body>
<h1>MLflow</h1>
<p>This server asks for its token. The task <code>status --show-credentials</code> prints a link
that logs this browser in.</p>
<form action="/" method="get" autocomplete="off"><label>Token
<input name="token" type="password" size="50" autofocus></label>
<button>Log in</button></form>
</body></html>"""


class Login:
    """ASGI middleware that lets in whoever has the token.

    Parameters
    ----------
    app : ASGI application
    token : str
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token
        # cookies know no ports: each stack has a name of its own, and none holds the token itself
        self.cookie_name = f"mlflow-{_derive(token, 'name')[:12]}"
        self.cookie = _derive(token, "browser")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        token, query = _take_token(scope)
        if token is not None:
            scope["query_string"] = query  # in place, since uvicorn logs it from there
        headers = Headers(scope=scope)
        if refused := self._refuse(scope, headers, token, query):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await refused(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refuse(
        self, scope: Scope, headers: Headers, token: str | None, query: bytes
    ) -> Response | None:
        """Give the answer to who may not ask, or is to come again with a cookie; None otherwise."""
        if _is_of_another_page(headers):
            origin = headers.get("origin", "another server")[:80]
            return _refusal(
                403, "PERMISSION_DENIED", f"A page of {origin} may not ask this server."
            )
        if scope["path"] in OPEN_PATHS:
            return None
        if token is not None and _same(token, self.token):
            return self._let_browser_in(query)
        if self._knows(headers):
            return None
        if "text/html" in headers.get("accept", ""):
            return HTMLResponse(PAGE, 401, {"Cache-Control": "no-store"})
        return _refusal(
            401,
            "UNAUTHENTICATED",
            "The token is missing or wrong; set MLFLOW_TRACKING_TOKEN, or send it as "
            "Authorization: Bearer TOKEN.",
        )

    def _let_browser_in(self, query: bytes) -> Response:
        rest = f"?{query.decode('latin-1')}" if query else ""
        answer = RedirectResponse(f"/{rest}", 303, {"Cache-Control": "no-store"})
        answer.set_cookie(
            self.cookie_name, self.cookie, max_age=MAX_AGE_S, httponly=True, samesite="lax"
        )
        return answer

    def _knows(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(given.strip(), self.token):
            return True
        # of the other programs on this machine, too, in whatever form: cookies know no ports
        found = cookie_parser(headers.get("cookie", "")).get(self.cookie_name)
        return found is not None and _same(found, self.cookie)


def _take_token(scope: Scope) -> tuple[str | None, bytes]:
    """Find the token in the address of the page, and the rest of that."""
    if scope["path"] != "/" or b"token=" not in scope["query_string"]:
        return None, scope["query_string"]
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    rest = [(key, value) for key, value in pairs if key != "token"]
    given = [value for key, value in pairs if key == "token"]
    return (given[0] if given else None), urlencode(rest).encode()


def _is_of_another_page(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host", ""):
        return True
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
    return site not in ("none", "same-origin") and mode != "navigate"


def _derive(token: str, use: str) -> str:
    return hmac.new(token.encode(), use.encode(), hashlib.sha256).hexdigest()


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())


def _refusal(status: int, code: str, message: str) -> Response:
    """Write a refusal in the form of MLflow's errors."""
    content = json.dumps({"error_code": code, "message": message})
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return Response(content, status, headers, "application/json")
