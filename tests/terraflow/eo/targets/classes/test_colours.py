from __future__ import annotations

import pytest

from terraflow.eo.targets.classes.colours import CUSTOMARY, PALETTE, class_colours


def test_class_colours_takes_the_configured_ones_and_no_other_class_has_them() -> None:
    configured = {"forest": PALETTE[1], "water": PALETTE[0]}
    colours = class_colours(["forest", "lava", "water"], configured)
    assert colours == [PALETTE[1], PALETTE[2], PALETTE[0]]


def test_class_colours_are_customary_by_name_once_each() -> None:
    colours = class_colours(["Broadleaved forest", "needleleaved forest", "water"], {})
    assert colours == [CUSTOMARY["forest"], PALETTE[0], CUSTOMARY["water"]]


@pytest.mark.parametrize("given", [0, 20])
def test_class_colours_more_classes_than_the_palette_repeat_it(given: int) -> None:
    configured = {f"class {i}": colour for i, colour in enumerate(PALETTE[:given])}
    colours = class_colours([f"class {i}" for i in range(41)], configured)
    assert colours[20:] == [*PALETTE, PALETTE[0]]
