"""How a release is started: by a script of its own, which a systemd user unit runs."""

from __future__ import annotations

import shlex

__all__ = ["START", "STOP", "start_script", "unit_name", "unit_text"]


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


#: Scripts. UNIT is their variable; $ROOT is the deployment's folder.
STOP = """
if systemctl --user show-environment > /dev/null 2>&1; then
    systemctl --user stop "$UNIT" 2> /dev/null || true
fi
if [ -x current/.venv/bin/invoke ]; then
    (cd current && . ./.libraries && .venv/bin/invoke down) || exit 1
fi
"""
START = """
if systemctl --user show-environment > /dev/null 2>&1; then
    mkdir -p "$HOME/.config/systemd/user" || exit 1
    cp unit "$HOME/.config/systemd/user/$UNIT" || exit 1
    loginctl enable-linger 2> /dev/null ||
        echo "linger can't be switched on: the service ends with the user's last session" >&2
    systemctl --user daemon-reload && systemctl --user enable --quiet "$UNIT" || exit 1
    systemctl --user restart "$UNIT" || exit 1
else
    # ssh ends when nobody holds what it reads
    (exec setsid nohup current/.start > var/deploy.log 2>&1 < /dev/null) > /dev/null 2>&1 &
fi
"""
