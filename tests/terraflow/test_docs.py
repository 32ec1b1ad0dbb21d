"""README and docs: links lead somewhere, and commands are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from terraflow.tasks import namespace

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TASKS = {name for names in namespace.task_names.items() for name in (names[0], *names[1])}
#: A target of make that is no task.
MAKE = {"help"}
SCRIPT = importlib.util.spec_from_file_location("make_pages", ROOT / "docs" / "make_pages.py")
assert SCRIPT
assert SCRIPT.loader
make_pages = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(make_pages)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
#: In code: the word after `invoke`, `make` or `pixi run`, with pixi's own options left out.
COMMAND = re.compile(
    r"(?:^|`)(invoke|make|pixi run(?: -e [\w-]+)?) ([a-z]+(?:-[a-z]+)*)\b", re.MULTILINE
)


def anchors(page: Path) -> set[str]:
    """Headings of a page as a code host writes them in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_tasks(page: Path) -> None:
    for tool, name in COMMAND.findall(page.read_text()):
        assert name in TASKS | (MAKE if tool == "make" else set()), f"{tool} {name}"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(LINK.findall((ROOT / "README.md").read_text()))
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= linked


@pytest.mark.parametrize("name", make_pages.PAGES)
def test_keys_and_messages_in_docs_are_those_of_the_code(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == make_pages.page(name), (
        "run docs/make_pages.py and commit what it writes"
    )


def test_every_message_tells_what_to_do() -> None:
    rows = make_pages.troubleshooting().splitlines()
    assert len(rows) > 200
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_guard_of_a_key_is_known_to_the_docs() -> None:
    told = make_pages.configuration()
    for key in ("TERRAFLOW_MLFLOW_PORT", "`samples_per_class`", "`max_cloud_cover`", "### [watch]"):
        assert key in told
    assert [row for row in told.splitlines() if row.endswith("|  |")] == []
