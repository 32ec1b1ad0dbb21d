"""A real HTTP server for tests: ranges, faults on demand, and a small STAC API."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import pystac

CONFORMANCE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search",
]


@dataclass(frozen=True)
class Fault:
    """What one request gets instead of the file.

    Attributes
    ----------
    status : int
        HTTP status; 200 leaves it.
    headers : dict
        Added to the answer.
    hang_s : float
        So long nothing is sent; then the connection is closed.
    truncate : bool
        Only half of the promised body is sent.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang_s: float = 0
    truncate: bool = False


class HttpServer:
    """Serves a folder on a free port of 127.0.0.1, and under /stac a STAC API.

    Attributes
    ----------
    requests : list of tuple
        Method and path of every request, in the order of arrival.
    faults : dict
        Path to the faults of its next requests, one each; they are used up.
    always : dict
        Path to the fault of all its requests.
    delay_s : float
        Before every file.
    sent : int
        Bytes of bodies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str]] = []
        self.faults: defaultdict[str, list[Fault]] = defaultdict(list)
        self.always: dict[str, Fault] = {}
        self.delay_s = 0.0
        self.sent = 0
        self.items: list[dict[str, Any]] = []
        self.page_size = 2
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.owner = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def count(self, suffix: str = ".tif") -> int:
        """Count the requests for paths that end so."""
        return sum(path.endswith(suffix) for _, path in self.requests)

    def counts(self, suffix: str = ".tif") -> Counter[str]:
        """Count the requests of each path that ends so."""
        return Counter(path for _, path in self.requests if path.endswith(suffix))

    def serve_items(self, items: Sequence[pystac.Item], collection: str) -> str:
        """Put items into a collection of the STAC API, their assets by HTTP; return its URL."""
        for item in items:
            document = item.to_dict(include_self_link=False, transform_hrefs=False)
            document |= {"collection": collection, "links": []}
            for asset in document["assets"].values():
                path = Path(asset["href"]).relative_to(self.folder).as_posix()
                asset["href"] = f"{self.url}/{path}"
            self.items.append(document)
        return f"{self.url}/stac"

    def note(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, path))
            if path in self.always:
                return self.always[path]
            return self.faults[path].pop(0) if self.faults[path] else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def owner(self) -> HttpServer:
        return self.server.owner  # type: ignore[attr-defined, no-any-return]

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        fault = self.owner.note(self.command, path) or Fault()
        if fault.hang_s:
            self.owner.released.wait(fault.hang_s)
            self.close_connection = True
        elif fault.status != 200:
            self._send(fault.status, b"fault", fault.headers)
        elif path == "/stac" or path.startswith("/stac/"):
            query = {k: v[0] for k, v in parse_qs(parts.query).items()}
            self._api(path.removeprefix("/stac").strip("/"), json.loads(body or b"{}") | query)
        else:
            self.owner.released.wait(self.owner.delay_s)
            self._file(self.owner.folder / path.lstrip("/"), fault)

    def _file(self, path: Path, fault: Fault) -> None:
        if not path.is_file():
            self._send(404, b"not found")
            return
        data, status, headers = path.read_bytes(), 200, {"Accept-Ranges": "bytes"}
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
            if first >= len(data):
                self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        self._send(status, data, headers | fault.headers, truncate=fault.truncate)

    def _send(
        self,
        status: int,
        data: bytes,
        headers: dict[str, str] | None = None,
        *,
        truncate: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.owner.sent += self.wfile.write(data[: len(data) // 2] if truncate else data)
        self.close_connection = self.close_connection or truncate

    def _json(self, document: dict[str, Any], kind: str = "application/json") -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": kind})

    def _api(self, resource: str, query: dict[str, Any]) -> None:
        names = sorted({item["collection"] for item in self.owner.items})
        collections = {name: self._collection(name) for name in names}
        if resource == "":
            self._json(self._landing_page())
        elif resource == "collections":
            self._json({"collections": list(collections.values()), "links": []})
        elif resource == "search":
            self._json(self._search(query), "application/geo+json")
        elif (name := resource.removeprefix("collections/")) in collections:
            self._json(collections[name])
        else:
            self._send(404, b'{"code": "NotFound"}')

    def _landing_page(self) -> dict[str, Any]:
        root = f"{self.owner.url}/stac"
        geojson, plain = "application/geo+json", "application/json"
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "test-api",
            "description": "A test.",
            "conformsTo": CONFORMANCE,
            "links": [
                {"rel": "self", "href": root, "type": plain},
                {"rel": "root", "href": root, "type": plain},
                {"rel": "data", "href": f"{root}/collections", "type": plain},
                {"rel": "search", "href": f"{root}/search", "type": geojson, "method": "GET"},
                {"rel": "search", "href": f"{root}/search", "type": geojson, "method": "POST"},
            ],
        }

    def _collection(self, name: str) -> dict[str, Any]:
        root = f"{self.owner.url}/stac"
        extent = pystac.Extent(
            pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[None, None]])
        )
        links = [
            {"rel": "self", "href": f"{root}/collections/{name}"},
            {"rel": "root", "href": root},
        ]
        document: dict[str, Any] = pystac.Collection(name, name, extent).to_dict(False)
        return document | {"links": links}

    def _search(self, query: dict[str, Any]) -> dict[str, Any]:
        """Filter by collections, bbox and datetime; the next page starts where this one ends."""
        wanted = query.get("collections")
        wanted = wanted.split(",") if isinstance(wanted, str) else wanted
        box = query.get("bbox")
        box = [float(n) for n in box.split(",")] if isinstance(box, str) else box
        start, _, end = query.get("datetime", "../..").partition("/")
        chosen = []
        for item in self.owner.items:
            west, south, east, north = item.get("bbox") or (-180, -90, 180, 90)
            time = item["properties"]["datetime"]
            if wanted and item["collection"] not in wanted:
                continue
            if box and (box[0] > east or box[2] < west or box[1] > north or box[3] < south):
                continue
            if (start != ".." and time < start) or (end != ".." and time > end):
                continue
            chosen.append(item)
        first = int(query.get("token", 0))
        size = min(int(query.get("limit", 100)), self.owner.page_size)
        page: dict[str, Any] = {"type": "FeatureCollection", "links": []}
        page["features"] = chosen[first : first + size]
        if first + size < len(chosen):
            page["links"] = [
                {
                    "rel": "next",
                    "href": f"{self.owner.url}/stac/search",
                    "method": "POST",
                    "body": query | {"token": first + size},
                }
            ]
        return page
