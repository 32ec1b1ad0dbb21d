from __future__ import annotations

import pytest
from invoke.context import Context

from terraflow.tasks.validate import validate


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "validate  is not known; write validate draw or validate read."),
        ({"action": "raed"}, "validate raed is not known (did you mean read?)"),
        ({"action": "draw"}, "validate draw needs a map; name it by --map."),
        ({"action": "read"}, "validate read needs points; name them, as validate read points.gpkg"),
        ({"action": "draw", "map": "m.tif", "drop_missing": True}, "takes no --drop-missing"),
        ({"action": "read", "file": "p.gpkg", "points": "4"}, "validate read takes no --points"),
        ({"action": "draw", "map": "m.tif", "points": "many"}, "--points 'many' is no number"),
        ({"action": "draw", "map": "m.tif", "target_se": "low"}, "--target-se 'low' is no number"),
    ],
)
def test_validate_wrong_words_are_sentences(
    given: dict[str, object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        validate(Context(), also=[], **given)
    assert ended.value.code == 1
    assert told in capsys.readouterr().err
