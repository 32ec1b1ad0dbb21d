from __future__ import annotations

import re

import pytest

import terraflow
from area import Area
from maps import INFO, make_model, write_items
from terraflow.eo.hooks import HookRecord
from terraflow.eo.maps.map_origin import MapOrigin, make_origin
from terraflow.tracking import runs

LEAST = {
    "model": "models:/a/1",
    "model_name": "a",
    "items": "items.json",
    "items_digest": "1",
    "config_digest": "2",
    "version": "0.1.0",
}


def named(**changes: str) -> str:
    return make_origin(make_model(**changes), "items.json", []).model


def test_make_origin_of_an_alias_names_the_version() -> None:
    assert named(uri="models:/x@champion", version="3") == "models:/x/3"
    assert named(uri="models:/x/3", version="3") == "models:/x/3"
    assert named(uri="runs:/abc/model", version="") == "runs:/abc/model"


def test_make_origin_tells_training_items_and_code(area: Area) -> None:
    items_uri = write_items(area)
    told = make_origin(make_model(), items_uri, area.items).to_tags()
    expected = {
        "model": "models:/land-cover/3",
        "model_name": "land-cover",
        "model_version": "3",
        "run_id": "5" * 32,
        "code_commit": "c0ffee",
        "lock_digest": INFO["lock_digest"],
        "data_digest": INFO["data_digest"],
        "seed": "42",
        "overall_accuracy": "0.9375",
        "macro_f1": "0.875",
        "items": items_uri,
        "note": INFO["note"],
        "target": "classification",
        "version": terraflow.__version__,
    }
    assert {key: told[key] for key in expected} == expected
    assert told["map_lock_digest"] == runs.provenance()["lock_digest"]
    assert all(re.fullmatch("[0-9a-f]{16}", told[f"{key}_digest"]) for key in ("items", "config"))


def test_make_origin_tells_target_and_code_of_the_hooks(area: Area) -> None:
    hooks = HookRecord(target="flood.project:Mask", digest="abcd")
    origin = make_origin(make_model(info={"hooks": hooks}), "items.json", area.items)
    assert (origin.target, origin.hooks_digest) == ("flood.project:Mask", "abcd")


def test_to_tags_leaves_out_what_is_not_known(area: Area) -> None:
    write_items(area)
    nothing = {"code_commit": "", "lock_digest": "", "data_digest": "", "scores": {}, "note": ""}
    model = make_model(info=nothing, version="", run_id="")
    told = make_origin(model, "items", area.items).to_tags()
    assert not {"model_version", "run_id", "code_commit", "note", "scores"} & set(told)
    assert told["seed"] == "42"


def test_make_origin_digest_follows_the_items(area: Area) -> None:
    write_items(area)
    both = make_origin(make_model(), "items", area.items)
    one = make_origin(make_model(), "items", area.items[:1])
    assert both.items_digest != one.items_digest
    assert both.id != one.id


def test_from_tags_gives_what_to_tags_took(area: Area) -> None:
    write_items(area)
    origin = make_origin(make_model(), "items", area.items)
    assert MapOrigin.from_tags(origin.to_tags()) == origin


def test_from_tags_without_a_version_is_of_an_older_record() -> None:
    origin = MapOrigin.from_tags(LEAST | {"macro_f1": "0.5", "seed": "7", "maker": "somebody"})
    assert origin.record_version == 0
    assert origin.scores == {"macro_f1": 0.5}
    assert (origin.seed, origin.target) == ("7", "classification")


@pytest.mark.parametrize("key", LEAST)
def test_from_tags_without_what_every_map_has_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        MapOrigin.from_tags({k: v for k, v in LEAST.items() if k != key})
