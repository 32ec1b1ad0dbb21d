"""Colours of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib import colormaps
from matplotlib.colors import to_hex

__all__ = ["class_colours"]

#: What maps customarily show in a colour, by a part of the class's name.
CUSTOMARY = {
    "forest": "#1f6b35",
    "tree": "#1f6b35",
    "wood": "#1f6b35",
    "shrub": "#8a9a3b",
    "grass": "#a4c65e",
    "meadow": "#a4c65e",
    "crop": "#e6b84c",
    "cultivated": "#e6b84c",
    "arable": "#e6b84c",
    "water": "#3b6fb6",
    "wetland": "#5fb3a8",
    "built": "#c2483c",
    "artificial": "#c2483c",
    "urban": "#c2483c",
    "bare": "#b8a58c",
    "snow": "#dfe9f2",
}
PALETTE = [to_hex(colormaps["tab20"](i)) for i in range(20)]


def class_colours(classes: Sequence[str], chosen: Mapping[str, str]) -> list[str]:
    """Give every class a colour.

    Parameters
    ----------
    chosen : dict
        Class name to "#rrggbb", as [map.colours] has it.

    Returns
    -------
    list of str
        "#rrggbb" in the order of `classes`: from `chosen`, else the customary one of such a
        name, if no other class has it, and for the rest the colours of matplotlib's tab20 that no
        other class has, in order, from the start again after twenty.
    """
    given = {name: chosen[name].lower() for name in classes if name in chosen}
    for name in classes:
        usual = [colour for word, colour in CUSTOMARY.items() if word in name.lower()]
        if name not in given and usual and usual[0] not in given.values():
            given[name] = usual[0]
    rest = cycle([c for c in PALETTE if c not in given.values()] or PALETTE)
    return [given[name] if name in given else next(rest) for name in classes]
