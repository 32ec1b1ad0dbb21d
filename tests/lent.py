"""An environment of its own that holds the platform's wheel, in seconds and without a network."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["make_environment"]


def make_environment(wheel: Path, folder: Path) -> Path:
    """Make an environment that holds the wheel, and lends all else from this one.

    A path in a .pth file lends the packages that lie there, but not what is installed editable
    there: .pth files are read in the environment's own folder only.

    Returns
    -------
    Path
        Its Python.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    words = ["uv", "pip", "install", "--no-deps", "--offline", "--python", python]
    subprocess.run([sys.executable, "-m", *words, wheel], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    lent = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "lent.pth").write_text("\n".join(lent))
    for script in Path(sys.executable).parent.iterdir():
        if script.is_file() and not script.is_symlink():
            first, _, rest = script.read_bytes().partition(b"\n")
            if first.startswith(b"#!") and b"/python" in first:
                own = folder / "bin" / script.name
                own.write_bytes(f"#!{python}\n".encode() + rest)
                own.chmod(0o755)
    return python
