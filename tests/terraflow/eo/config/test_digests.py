from __future__ import annotations

from pathlib import Path

import pytest

from terraflow.eo.config.digests import code_closure, code_digest, value_digest

PLAIN = '''
"""What it is for."""

LIMIT = 3


def double(values):
    """Double them."""
    return [2 * value for value in values if value < LIMIT]
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Name of an empty package of this test's own: modules stay in sys.modules."""
    name = f"digested_{abs(hash(request.node.nodeid))}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def write(tmp_path: Path, module: str, text: str) -> None:
    path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("LIMIT = 3", "LIMIT = 3  # of all", True),
        ("What it is for", "What else it is for", True),
        ("Double them", "Make them twice as large", True),
        ('    """Double them."""\n', "", True),
        ("[2 * value for", "[\n        2 * value\n        for", True),
        ("LIMIT = 3", "LIMIT = 4", False),
        ("2 * value", "value * 2", False),
        ("value < LIMIT", "value <= LIMIT", False),
        ("def double", "def twice", False),
        ("LIMIT = 3\n", "LIMIT = 3\nOTHER = 1\n", False),
        ("    return [", '    "Double them."\n    "a text"\n    return [', False),
    ],
)
def test_code_digest_changes_with_what_the_code_does_only(
    old: str, new: str, same: bool, package: str, tmp_path: Path
) -> None:
    write(tmp_path, f"{package}.code", PLAIN)
    before = code_digest([f"{package}.code"])
    assert old in PLAIN
    write(tmp_path, f"{package}.code", PLAIN.replace(old, new, 1))
    assert (code_digest([f"{package}.code"]) == before) is same


def test_code_digest_is_16_hexadecimal_digits(package: str, tmp_path: Path) -> None:
    write(tmp_path, f"{package}.code", PLAIN)
    digest = code_digest([f"{package}.code"])
    assert len(digest) == 16
    assert int(digest, 16) >= 0


def test_code_digest_package_stands_for_all_its_modules(package: str, tmp_path: Path) -> None:
    write(tmp_path, f"{package}.inner.deep", "A = 1")
    write(tmp_path, f"{package}.inner.__init__", "")
    found = {code_digest([package])}
    write(tmp_path, f"{package}.inner.deep", "A = 2")
    found.add(code_digest([package]))
    write(tmp_path, f"{package}.more", "")
    found.add(code_digest([package]))
    write(tmp_path, f"{package}.__init__", "B = 1")
    found.add(code_digest([package]))
    assert len(found) == 4


def test_code_digest_neither_order_nor_repetition_counts(package: str, tmp_path: Path) -> None:
    names = [f"{package}.a", f"{package}.b"]
    for name in names:
        write(tmp_path, name, PLAIN)
    assert code_digest(names) == code_digest([*reversed(names), names[0], f"{package}.a"])
    assert code_digest(names) != code_digest(names[:1])


def test_code_digest_code_moved_to_another_module_is_another(package: str, tmp_path: Path) -> None:
    write(tmp_path, f"{package}.a", PLAIN)
    write(tmp_path, f"{package}.b", PLAIN)
    assert code_digest([f"{package}.a"]) != code_digest([f"{package}.b"])


def test_code_digest_unknown_module_is_refused() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no source of module terraflow\.nothing"):
        code_digest(["terraflow.nothing"])


def test_code_digest_module_without_source_is_refused() -> None:
    with pytest.raises(ModuleNotFoundError, match="no source of module sys"):
        code_digest(["sys"])


def test_code_closure_follows_imports_within_the_package_only(package: str, tmp_path: Path) -> None:
    texts = {
        "start": f"import json, numpy\nfrom {package} import first, NAME\nimport {package}.second",
        "first": "from .inner import deep\n\ndef late():\n    from . import third\n",
        "second": "from terraflow.errors import DataError",
        "third": f"from {package}.start import something",  # a cycle ends
        "inner.__init__": "",
        "inner.deep": "from ..fourth import nothing\nfrom json import first",
        "fourth": "raise RuntimeError('modules are read, not run')",
        "aside": "",
        "__init__": "NAME = 1",
    }
    for name, text in texts.items():
        write(tmp_path, f"{package}.{name}", text)
    inner = ("start", "first", "second", "third", "fourth", "inner", "inner.deep")
    assert code_closure(f"{package}.start") == {package, *(f"{package}.{name}" for name in inner)}


def test_code_closure_of_a_package_resolves_its_relative_imports(
    package: str, tmp_path: Path
) -> None:
    write(tmp_path, f"{package}.__init__", "from .first import a")
    write(tmp_path, f"{package}.first", "a = 1")
    assert code_closure(package) == {package, f"{package}.first"}


def test_code_closure_folder_without_init_is_passed_over(package: str, tmp_path: Path) -> None:
    write(tmp_path, f"{package}.start", f"from {package}.folder import inner")
    write(tmp_path, f"{package}.folder.inner", "")
    assert code_closure(f"{package}.start") == {f"{package}.start", f"{package}.folder.inner"}


def test_code_closure_unknown_module_is_refused() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"terraflow\.nothing"):
        code_closure("terraflow.nothing")


def test_value_digest_order_of_keys_does_not_count() -> None:
    assert value_digest({"a": 1, "b": [1, 2]}) == value_digest({"b": [1, 2], "a": 1})


@pytest.mark.parametrize("other", [{"a": 1, "b": [2, 1]}, {"a": 1}, {"a": "1", "b": [1, 2]}, None])
def test_value_digest_another_value_is_another(other: object) -> None:
    assert value_digest(other) != value_digest({"a": 1, "b": [1, 2]})


def test_value_digest_takes_paths_for_texts() -> None:
    assert value_digest([Path("/a")]) == value_digest(["/a"]) != value_digest(["/b"])


def test_code_digest_of_a_package_alone_leaves_its_modules_out(
    package: str, tmp_path: Path
) -> None:
    write(tmp_path, f"{package}.inner", "A = 1")
    before = code_digest([package], whole_packages=False)
    write(tmp_path, f"{package}.inner", "A = 2")
    assert code_digest([package], whole_packages=False) == before
    write(tmp_path, f"{package}.__init__", "B = 1")
    assert code_digest([package], whole_packages=False) != before
