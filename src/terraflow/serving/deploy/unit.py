"""The systemd user unit of a deployment, and how its command is run without systemd."""

from __future__ import annotations

import shlex

__all__ = ["START", "STOP", "unit_name", "unit_text"]


def unit_name(project: str) -> str:
    """Name of the unit of a project's deployment."""
    return f"terraflow-{project}.service"


def unit_text(root: str, command: list[str], variables: dict[str, str]) -> str:
    """Write the unit.

    Parameters
    ----------
    root : str
        Absolute folder of the deployment there.
    command : list of str
        Words after invoke.

    References
    ----------
    https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html
    """
    environment = "".join(
        f'Environment="{key}={_escaped(value)}"\n' for key, value in variables.items()
    )
    words = " ".join(f'"{_escaped(word)}"' for word in command)
    return f"""[Unit]
Description=TerraFlow: {_escaped(shlex.join(command))}

[Service]
WorkingDirectory={_escaped(root)}/current
{environment}ExecStart="{_escaped(root)}/current/.venv/bin/invoke" {words}
Restart=on-failure
RestartSec=5
KillMode=mixed
TimeoutStopSec=30

[Install]
WantedBy=default.target
"""


def _escaped(text: str) -> str:
    """Write text as a unit takes it, inside quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")


#: Scripts. UNIT, COMMAND (words of sh) are their variables; $ROOT is the deployment's folder.
STOP = """
if systemctl --user show-environment > /dev/null 2>&1; then
    systemctl --user stop "$UNIT" 2> /dev/null || true
fi
if [ -x current/.venv/bin/invoke ]; then (cd current && .venv/bin/invoke down) || exit 1; fi
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
    cd current || exit 1
    (  # ssh ends when nobody holds what it reads
        exec > "$ROOT/var/deploy.log" 2>&1 < /dev/null
        eval "exec setsid nohup .venv/bin/invoke $COMMAND"
    ) &
fi
"""
