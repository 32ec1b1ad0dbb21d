"""Local files by patterns and by URIs, whose names may hold what patterns and URIs mean."""

from __future__ import annotations

import glob
import os
from collections import deque
from urllib.parse import unquote

__all__ = ["find_paths", "local_path"]


def find_paths(pattern: str) -> tuple[list[str], str]:
    """Find the files of a pattern; a file or folder that has its very name goes before.

    Parameters
    ----------
    pattern : str
        As for `glob.glob`, absolute: ``*``, ``?``, ``[...]`` and ``**``.

    Returns
    -------
    paths : list of str
        Sorted; folders only where it names nothing else.
    folder : str
        Above the last folder that the pattern names without a wildcard; ends with /.
    """
    parts, literal = deque(pattern.split("/")), ""
    while parts:
        named = [n for n in (parts[0], _unescaped(parts[0])) if os.path.exists(literal + n)]
        if parts[0] and not named:
            break
        literal += f"{named[0] if parts[0] else ''}/"
        parts.popleft()
    literal = literal.rstrip("/")
    found = [literal]
    if parts:
        found = glob.glob("/".join([glob.escape(literal), *parts]), recursive=True)
    files = [path for path in found if os.path.isfile(path)]
    last = literal if parts else os.path.dirname(literal)
    # some rasters are folders, as those of Zarr
    return sorted(files or found), os.path.dirname(last).rstrip("/") + "/"


def local_path(href: str) -> str:
    """Give the path that a local address means, decoded where a file has that name only.

    Parameters
    ----------
    href : str
        A path, or a URL as file:///data/my%20images/B04.tif.

    Returns
    -------
    str
        The path itself, also where there is neither.

    References
    ----------
    https://www.rfc-editor.org/rfc/rfc8089 and /rfc3986, section 2.1: percent-encoding
    """
    path = href
    if href.startswith("file:"):
        path = href.removeprefix("file:")
        if path.startswith("//"):
            path = "/" + path[2:].partition("/")[2]  # what stands before it is localhost or nothing
    decoded = unquote(path)
    return decoded if not os.path.exists(path) and os.path.exists(decoded) else path


def _unescaped(part: str) -> str:
    """Undo glob.escape."""
    for wild in "*?[":
        part = part.replace(f"[{wild}]", wild)
    return part
