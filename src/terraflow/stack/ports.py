"""Ports that are taken, and by whom."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

import psutil

from terraflow.errors import ServiceError
from terraflow.settings import Settings
from terraflow.stack.services import Service

__all__ = ["check_port", "check_ports"]


def check_ports(settings: Settings, services: Iterable[Service]) -> None:
    """See that the ports of some services are free.

    Raises
    ------
    ServiceError
        Some are taken; the message names each, its holder and how to change it.
    """
    problems = []
    for service in services:
        for key in service.ports:
            try:
                check_port(settings, key, service.name)
            except ServiceError as error:
                problems.append(str(error))
    if problems:
        raise ServiceError("\n".join(problems))


def check_port(settings: Settings, key: str, service: str) -> None:
    """See that one port is free.

    Parameters
    ----------
    key : str
        Of the settings, such as "mlflow.port".
    service : str
        Named in the message.

    Raises
    ------
    ServiceError
        It is taken.
    """
    port = dict(settings.ports())[key]
    if _is_taken(settings.host, port):
        section, name = key.split(".")
        raise ServiceError(
            f"Port {port} ({service}) is taken by {_holder(port)}; end that, or set "
            f"TERRAFLOW_{section.upper()}_{name.upper()} (0 means any free port), or {name} in "
            f"[{section}] of config/local/terraflow.toml."
        )


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return True
    with socket.socket() as sock:
        sock.settimeout(0.5)
        return sock.connect_ex((host, port)) == 0


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):  # other users' sockets are hidden on some systems
        for connection in psutil.net_connections("tcp"):
            here = connection.laddr and connection.laddr.port == port
            if here and connection.status == psutil.CONN_LISTEN and connection.pid:
                process = psutil.Process(connection.pid)
                return f"process {connection.pid} ({' '.join(process.cmdline())[:80]})"
    return "a process of another user"
