"""The model server behind TLS, by the Caddyfile of the docs and a real caddy."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness import wait_for

CADDYFILE = Path(__file__).resolve().parents[3] / "docs" / "Caddyfile"
SPLIT = {"columns": ["red", "nir"], "data": [[0.1, 0.9]]}


@pytest.fixture
def site(
    start_server: Callable[..., str],
    tmp_path: Path,
    free_tcp_port_factory: Callable[[], int],
) -> Iterator[tuple[str, Path]]:
    """Address behind caddy, and the certificate of its authority."""
    if not shutil.which("caddy"):
        pytest.skip("caddy is not here (Debian's package caddy)")
    token = tmp_path / "token"
    token.write_text("Authorization: Bearer a-token\n")
    url = start_server(token_file=str(token))
    port = free_tcp_port_factory()
    own = {
        "TERRAFLOW_SITE": f"localhost:{port}",
        "TERRAFLOW_SERVING_PORT": url.rpartition(":")[2],
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "HOME": str(tmp_path),
    }
    # it would try to make this machine trust the authority that it makes for localhost
    config = tmp_path / "Caddyfile"
    text = CADDYFILE.read_text()
    assert "admin off" in text
    options = "admin off\n\tskip_install_trust\n\tauto_https disable_redirects"
    config.write_text(text.replace("admin off", options))
    with (tmp_path / "caddy.log").open("wb") as log:
        words = ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
        process = subprocess.Popen(words, env=os.environ | own, stdout=log, stderr=log)
    root = tmp_path / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    try:
        wait_for(root.exists, 30)
        wait_for(lambda: answers(f"https://localhost:{port}", root), 30)
        yield f"https://localhost:{port}", root
    finally:
        process.terminate()
        process.wait(10)


def client(root: Path) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(root))
    return httpx.Client(verify=context, trust_env=False)


def answers(url: str, root: Path) -> bool:
    try:
        with client(root) as asking:
            return asking.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_caddyfile_gives_tls_and_the_token_still_guards(site: tuple[str, Path]) -> None:
    url, root = site
    body: dict[str, Any] = {"dataframe_split": SPLIT}
    with client(root) as asking:
        assert asking.post(f"{url}/invocations", json=body).status_code == 401
        token = {"Authorization": "Bearer a-token"}
        answer = asking.post(f"{url}/invocations", json=body, headers=token)
        assert answer.json()["predictions"] == ["forest"]
        assert answer.headers["strict-transport-security"]
        origin = {"Origin": "https://elsewhere.example"}
        assert asking.post(f"{url}/invocations", json=body, headers=origin).status_code == 401
        from_page = asking.post(f"{url}/invocations", json=body, headers=token | origin)
        assert from_page.status_code == 200  # whoever has the token may ask from any page
