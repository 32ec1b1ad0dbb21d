from __future__ import annotations

import pytest

from terraflow.eo.targets.area.unit import AreaUnit


@pytest.mark.parametrize(
    ("areas_m2", "unit", "written"),
    [
        ([5.4, 12.2], "m2", ["5.4", "12.2"]),
        ([9_999, 0.018], "m2", ["9,999.0", "0.018"]),
        ([10_000, 54], "ha", ["1.0", "0.0054"]),
        ([12_345_600, 0], "ha", ["1,234.6", "0.0"]),
        ([], "m2", []),
    ],
)
def test_one_unit_in_which_no_area_is_told_as_none(
    areas_m2: list[float], unit: str, written: list[str]
) -> None:
    found = AreaUnit.of(areas_m2)
    assert found.name == unit
    assert [found.write(area) for area in areas_m2] == written
