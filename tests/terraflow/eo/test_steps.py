from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from area import make_project
from terraflow.eo import steps
from terraflow.eo.config.record import Record
from terraflow.eo.project import Inputs, OpenProject, Project
from terraflow.eo.step_table import STEPS, Option, Step
from terraflow.eo.steps import check, find_step, run_step, run_up_to, show
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage

Open = Callable[..., OpenProject]


class Found(Record):
    """What a step returns."""

    uri: str


class Fake:
    """Three built-in steps, one after the other, that tell what they got."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.wrong = ""
        self.modules: dict[str, ModuleType] = {}
        rows = (
            Step("first", "fake_steps_first", "First."),
            Step("second", "fake_steps_second", "Second.", after="first", unless="given"),
            Step("third", "fake_steps_third", "Third.", after="second"),
        )
        for row in rows:
            module = self.modules[row.name] = ModuleType(row.module)
            module.step = self.step(row.name)  # type: ignore[attr-defined]
            module.check = self.check(row.name)  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, row.module, module)
        monkeypatch.setattr(steps, "STEPS", {row.name: row for row in rows})

    def step(self, name: str) -> Callable[[OpenProject, Inputs], Any]:
        def step(project: OpenProject, inputs: Inputs) -> Any:
            self.told.append((name, dict(inputs)))
            return {f"of_{name}": len(self.told)}

        return step

    def check(self, name: str) -> Callable[[OpenProject, Inputs], None]:
        def check(project: OpenProject, inputs: Inputs) -> None:
            self.told.append((f"check {name}", dict(inputs)))
            if name == self.wrong:
                raise ConfigError(f"{name} can't work.")

        return check

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    @property
    def worked(self) -> list[str]:
        return [name for name in self.names if not name.startswith("check")]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(monkeypatch)


@pytest.fixture
def opened(storage: Storage) -> Open:
    def open_with(**own: Callable[[OpenProject, Inputs], Any]) -> OpenProject:
        return OpenProject(Project("fields", steps=own), make_project(), storage)

    return open_with


def ours(project: OpenProject, inputs: Inputs) -> Any:
    return {"ours": project.config.name, "got": dict(inputs)}


def test_find_step_unknown_name_is_refused_with_the_nearest(opened: Open) -> None:
    with pytest.raises(ConfigError) as found:
        find_step("preproces", opened())
    assert (
        str(found.value)
        == "Step 'preproces' is not known; write one of preprocess, reproduce, report."
    )


def test_find_step_nearest_may_be_the_projects_own(opened: Open) -> None:
    with pytest.raises(ConfigError, match=r"'harvset' is not known; write one of harvest\."):
        find_step("harvset", opened(harvest=ours))


def test_find_step_name_like_no_other_is_refused_with_all(opened: Open) -> None:
    with pytest.raises(ConfigError) as found:
        find_step("xyz", opened(harvest=ours))
    told = str(found.value).partition("write one of ")[2].rstrip(".").split(", ")
    assert told == sorted([*STEPS, "harvest"])


@pytest.mark.parametrize("run", [run_step, run_up_to, check])
def test_run_unknown_name_is_refused_before_any_work(
    run: Callable[..., Any], fake: Fake, opened: Open
) -> None:
    with pytest.raises(ConfigError, match=r"'thrid' is not known; write one of third"):
        run("thrid", opened(), {})
    assert fake.told == []


def test_find_step_own_function_replaces_the_built_in_one(opened: Open) -> None:
    assert find_step("train", opened(train=ours)) is ours
    assert find_step("train", opened()) is import_module(STEPS["train"].module).step


def test_run_step_own_step_gets_the_project_and_its_inputs(opened: Open) -> None:
    assert run_step("harvest", opened(harvest=ours), {"a": 1}) == {
        "ours": "land-cover",
        "got": {"a": 1},
    }


def test_run_step_record_becomes_a_dict(opened: Open) -> None:
    project = opened(harvest=lambda project, inputs: Found(uri="a"))
    assert run_step("harvest", project, {}) == {"record_version": 1, "uri": "a"}


def failing(project: OpenProject, inputs: Inputs) -> Any:
    raise ZeroDivisionError("no field")


def nothing(project: OpenProject, inputs: Inputs) -> Any:
    return None


def a_text(project: OpenProject, inputs: Inputs) -> Any:
    return "a.tif"


class Ends:
    def __call__(self, project: OpenProject, inputs: Inputs) -> Any:
        return []


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (failing, "failing) failed with ZeroDivisionError: no field (test_steps.py, line "),
        (nothing, "nothing) returned NoneType; a dict of names to URIs and plain values is expec"),
        (a_text, "a_text) returned str; a dict of names to URIs and plain values is expected; "),
        (Ends(), "Ends) returned list; a dict of names to URIs and plain values is exp"),
    ],
    ids=["fails", "returns nothing", "returns a text", "instance"],
)
def test_run_step_own_step_that_is_wrong_is_told_in_one_sentence(
    function: Callable[..., Any], told: str, opened: Open
) -> None:
    with pytest.raises(ConfigError) as found:
        run_step("harvest", opened(harvest=function), {})
    said = str(found.value)
    assert said.startswith(f"Step harvest ({__name__}:{told}")
    assert len(said.splitlines()) == 1
    assert said.endswith("; correct it.")


def test_run_step_error_of_ours_is_passed_on(opened: Open) -> None:
    def knows_better(project: OpenProject, inputs: Inputs) -> Any:
        raise DataError("The images are of another year; take others.")

    with pytest.raises(DataError, match=r"^The images are of another year; take others\.$"):
        run_step("harvest", opened(harvest=knows_better), {})


def test_run_step_fault_of_a_built_in_step_keeps_its_type(fake: Fake, opened: Open) -> None:
    fake.modules["first"].step = failing  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        run_step("first", opened(), {})


def test_run_up_to_runs_the_steps_before_in_order_and_hands_on(fake: Fake, opened: Open) -> None:
    found = run_up_to("third", opened(), {"config": "a.toml"})
    assert fake.worked == ["first", "second", "third"]
    inputs = dict(item for item in fake.told if item[0] in fake.worked)
    assert inputs["first"] == {"config": "a.toml"}
    assert inputs["second"] == {"config": "a.toml", "of_first": 4}
    assert inputs["third"] == {"config": "a.toml", "of_second": 5}
    assert found == {"config": "a.toml", "of_third": 6}


def test_run_up_to_checks_all_before_any_work(fake: Fake, opened: Open) -> None:
    run_up_to("third", opened(), {"a": 1})
    assert fake.names[:3] == ["check first", "check second", "check third"]
    assert fake.told[0] == ("check first", {"a": 1})
    assert fake.worked == fake.names[3:]


def test_run_up_to_what_a_check_refuses_does_no_work(fake: Fake, opened: Open) -> None:
    fake.wrong = "third"
    with pytest.raises(ConfigError, match=r"^third can't work\.$"):
        run_up_to("third", opened(), {})
    assert fake.worked == []


def test_run_up_to_without_a_step_before_runs_it_alone(fake: Fake, opened: Open) -> None:
    run_up_to("first", opened(), {})
    assert fake.names == ["check first", "first"]


@pytest.mark.parametrize(("given", "worked"), [("a.tif", ["second"]), (None, ["first", "second"])])
def test_run_up_to_unless_its_option_is_given(
    given: str | None, worked: list[str], fake: Fake, opened: Open
) -> None:
    run_up_to("second", opened(), {"given": given})
    assert fake.worked == worked
    assert [name.removeprefix("check ") for name in fake.names[: len(worked)]] == worked


def test_run_up_to_own_step_takes_the_place_of_a_built_in_one(fake: Fake, opened: Open) -> None:
    def second(project: OpenProject, inputs: Inputs) -> Any:
        fake.told.append(("mine", dict(inputs)))
        return {"of_mine": 1}

    run_up_to("third", opened(second=second), {})
    assert fake.worked == ["first", "mine", "third"]
    assert "check second" not in fake.names  # it is of the function that was replaced
    assert fake.told[-1] == ("third", {"of_mine": 1})


def test_run_up_to_own_step_of_another_name_has_none_before(fake: Fake, opened: Open) -> None:
    assert run_up_to("harvest", opened(harvest=ours), {"a": 1})["got"] == {"a": 1}
    assert fake.told == []


def test_run_up_to_tells_how_long_each_step_took(
    fake: Fake, opened: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    run_up_to("second", opened(), {})
    told = r"first \.\.\.\nfirst: \d+\.\d s\nsecond \.\.\.\nsecond: \d+\.\d s\n"
    assert re.fullmatch(told, "".join(capsys.readouterr()))


def test_show_without_a_function_of_the_step_tells_every_output(
    fake: Fake, opened: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = {"record_version": 1, "map": "a.tif", "note": "", "score": 0, "none": None}
    assert show("first", opened(), outputs) == 0
    assert "".join(capsys.readouterr()).splitlines() == ["map: a.tif", "score: 0"]


@pytest.mark.parametrize(("returned", "code"), [(3, 3), (None, 0), (0, 0)])
def test_show_of_the_step_gives_the_exit_code(
    returned: int | None, code: int, fake: Fake, opened: Open
) -> None:
    fake.modules["first"].show = lambda project, outputs: returned  # type: ignore[attr-defined]
    assert show("first", opened(), {}) == code


def test_show_of_a_replaced_step_is_not_asked(
    fake: Fake, opened: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.modules["first"].show = lambda project, outputs: 3  # type: ignore[attr-defined]
    assert show("first", opened(first=ours), {"a": 1}) == 0
    assert "a: 1" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("text", "mlp", "mlp"),
        ("number", "0.25", 0.25),
        ("number", 1, 1.0),
        ("count", "12", 12),
        ("uri", "s3://bucket/map.tif", "s3://bucket/map.tif"),
        ("text", "", None),
        ("uri", "", None),
        ("count", "", None),
    ],
)
def test_option_read_gives_a_value_of_its_kind(kind: str, text: Any, value: Any) -> None:
    found = Option("name", "help", kind).read(text)
    assert found == value
    assert type(found) is type(value)


def test_option_read_path_starts_where_the_user_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INIT_CWD", str(tmp_path))
    assert Option("map", "help", "uri").read("maps/a.tif") == str(tmp_path / "maps" / "a.tif")


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("max_psi", "number", "much"),
        ("tune", "count", "2.5"),
        ("max_psi", "number", "nan"),
        ("max_psi", "number", "inf"),
    ],
)
def test_option_read_what_is_no_number_is_refused_by_the_options_name(
    name: str, kind: str, text: str
) -> None:
    option = name.replace("_", "-")
    with pytest.raises(ConfigError, match=rf"^--{option} '{text}' is no number; correct it\.$"):
        Option(name, "help", kind).read(text)


def test_option_read_credentials_are_refused_without_printing_them() -> None:
    with pytest.raises(ConfigError, match="holds credentials") as found:
        Option("items", "help", "uri").read("https://example.org/c.json?sig=hush")
    assert "hush" not in str(found.value)


@pytest.mark.parametrize("row", STEPS.values(), ids=STEPS)
def test_steps_each_row_names_a_module_with_its_step(row: Step) -> None:
    module = import_module(row.module)
    assert callable(module.step)
    assert "step" in module.__all__
    for name in ("check", "show"):
        assert callable(getattr(module, name, print))


@pytest.mark.parametrize("row", STEPS.values(), ids=STEPS)
def test_steps_each_row_refers_to_steps_and_options_that_are_there(row: Step) -> None:
    assert row.after in ("", *STEPS)
    assert row.after != row.name
    assert row.unless in ("", *(option.name for option in row.options))
    assert len({option.name for option in row.options}) == len(row.options)
    assert {option.kind for option in row.options} <= {"text", "uri", "number", "count", "flag"}
    assert row.summary.endswith(".")


def test_steps_names_and_former_names_are_each_of_one_step() -> None:
    names = [name for row in STEPS.values() for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))


def test_steps_module_imports_no_step() -> None:
    code = (
        "import sys, terraflow.eo.steps\n"
        "print([m for m in ('numpy', 'pydantic', 'xarray', 'rasterio') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "[]"


def test_monitor_of_requests_needs_no_image() -> None:
    assert steps._chain("monitor", {}) == ["ingest", "monitor"]
    assert steps._chain("monitor", {"served": True}) == ["monitor"]


def test_option_that_is_required_and_empty_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^file is empty; name a map\.$"):
        Option("file", "a map", "uri", required=True).read("")
    assert Option("file", "a map", "uri").read("") is None
