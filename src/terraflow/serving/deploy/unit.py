"""How a release is started: by a script of its own, which a systemd user unit runs."""

from __future__ import annotations

import shlex

__all__ = ["start_script", "unit_name", "unit_text"]


def unit_name(project: str) -> str:
    """Name of the unit of a project's deployment."""
    return f"terraflow-{project}.service"


def start_script(words: list[str], variables: dict[str, str]) -> str:
    """Write the script of a release; it takes further words of the task.

    Parameters
    ----------
    words : list of str
        After invoke.
    variables : dict
        Settings, which those that are set already win over.
    """
    exports = "".join(
        f'export {key}="${{{key}:-{value}}}"\n' for key, value in sorted(variables.items())
    )
    return (
        f'#!/bin/sh\ncd "$(dirname "$0")" && . ./.libraries || exit 1\n{exports}'
        f'exec .venv/bin/invoke {shlex.join(words)} "$@"\n'
    )


def unit_text(root: str, project: str) -> str:
    """Write the unit: whatever release is the current one.

    Parameters
    ----------
    root : str
        Absolute folder of the deployment there.

    References
    ----------
    https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html
    """
    escaped = root.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f"""[Unit]
Description=TerraFlow: {project}

[Service]
Environment="TERRAFLOW_VAR={escaped}/var"
ExecStart=/bin/sh "{escaped}/current/.start"
Restart=on-failure
RestartSec=5
KillMode=mixed
TimeoutStopSec=30

[Install]
WantedBy=default.target
"""
