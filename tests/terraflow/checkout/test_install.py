"""make and the environment it makes, for a small project whose packages lie in a folder."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from odd_shell import NONSENSE
from terraflow.checkout.install import leave_shared, reason

ROOT = Path(__file__).resolve().parents[3]
#: What uv is in the small project: that of this environment.
UV = "import os, sys; os.execv({uv!r}, ['uv', *sys.argv[1:]])"
#: Builds the editable wheel of a project, as setuptools does for one whose packages lie in src/.
BACKEND = """
import zipfile
from pathlib import Path

def build_editable(folder, *_):
    with zipfile.ZipFile(Path(folder) / "small-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small.pth", str(Path("src").resolve()))
        wheel.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: small\\nVersion: 1.0\\n")
        wheel.writestr("small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("small-1.0.dist-info/RECORD", "small.pth,,\\n")
    return "small-1.0-py3-none-any.whl"
"""  # noqa: E501
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "small"
version = "1.0"
dependencies = ["invoke"]

[tool.terraflow]
project = "small:PROJECT"
"""
#: None of them may reach the installer.
ODD = {
    name: value
    for family in ("pip", "uv", "Python", "git")
    for name, value in NONSENSE[family].items()
}
TASKS = """
import sys
from invoke import task

@task
def status(c):
    import terraflow
    print("python", sys.prefix, "platform", terraflow.__file__)
"""


def write_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> str:
    """Write a wheel of pure Python; return its line for requirements.lock."""
    info = f"{name}-{version}.dist-info"
    files = {path: data for path, data in files.items() if not path.endswith("/RECORD")} | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(data)}\n")
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
        archive.writestr(f"{info}/RECORD", "".join([*lines, f"{info}/RECORD,,\n"]))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


def installed_files(name: str) -> dict[str, bytes]:
    """Read the files of a package of pure Python that is installed here."""
    found = [p for p in distribution(name).files or [] if not str(p).startswith("..")]
    return {str(p): p.read_binary() for p in found if "__pycache__" not in str(p)}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of wheels, and the lock of them."""
    folder = tmp_path_factory.mktemp("wheels")
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    assert uv
    lines = [
        write_wheel(folder, name, distribution(name).version, installed_files(name))
        for name in ("invoke", "packaging")
    ]
    files = {"uv/__init__.py": b"", "uv/__main__.py": UV.format(uv=uv).encode()}
    return folder, "".join([*lines, write_wheel(folder, "uv", "9.9", files)])


class Checkout:
    """A small project, by make."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder, self.wheels = folder, wheels

    def make(self, *words: str, code: int = 0, **variables: str) -> str:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "MAKE"))}
        own = {"PIP_FIND_LINKS": str(self.wheels), "PIP_NO_INDEX": "1"}
        own |= {"UV_FIND_LINKS": str(self.wheels), "UV_NO_INDEX": "1", "TERRAFLOW_STORE": "local"}
        own["UV_CACHE_DIR"] = str(self.wheels / "cache")
        done = subprocess.run(
            ["make", f"PYTHON={sys.executable}", *words],
            cwd=self.folder,
            env=kept | own | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def status(self, **variables: str) -> str:
        """Run a task: its environment and its platform must be the checkout's own."""
        said = self.make("status", **variables)
        told = f"python {self.folder}/.venv platform {self.folder}/src/terraflow/__init__.py\n"
        assert said.endswith(told), said
        return said.removesuffix(told)


@pytest.fixture(scope="module")
def made(index: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose environment is made, from a shell full of pip's, uv's and Python's words."""
    folder = tmp_path_factory.mktemp("checkouts") / "made"
    folder.mkdir()
    for name in ("Makefile", "Procfile"):
        shutil.copy(ROOT / name, folder)
    for name, text in {
        "pyproject.toml": PYPROJECT,
        "requirements.lock": index[1],
        "backend.py": BACKEND,
        "tasks.py": TASKS,
    }.items():
        (folder / name).write_text(text)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "terraflow", folder / "src" / "terraflow", ignore=ignored)
    one = Checkout(folder, index[0])
    said = one.status(ARGS="--of-another-make", **ODD)
    assert "installing requirements.lock into .venv, 1 to 3 minutes" in said
    assert said.endswith("Python packages: installed\n")
    return one


@pytest.fixture
def checkout(made: Checkout) -> Iterator[Checkout]:
    """The same, as it was, after each test."""
    before = {n: (made.folder / n).read_bytes() for n in ("requirements.lock", "pyproject.toml")}
    yield made
    for name, data in before.items():
        (made.folder / name).write_bytes(data)


def test_environment_that_is_fresh_is_left_alone(checkout: Checkout) -> None:
    assert checkout.status() == ""
    for name in ("requirements.lock", "pyproject.toml"):  # as git does when it changes branches
        (checkout.folder / name).touch()
    assert checkout.status() == ""


@pytest.mark.slow
def test_checkout_that_was_copied_says_so_and_makes_an_environment_of_its_own(
    checkout: Checkout, tmp_path: Path
) -> None:
    there = Checkout(tmp_path / "it's elsewhere", checkout.wheels)
    shutil.copytree(checkout.folder, there.folder, symlinks=True)
    said = there.status()
    assert f"the environment in it is that of {checkout.folder}; it gets one of its own" in said
    scripts = [p for p in (there.folder / ".venv" / "bin").iterdir() if not p.is_symlink()]
    texts = [path.read_bytes() for path in scripts if path.is_file()]
    assert not any(str(checkout.folder / ".venv").encode() in text for text in texts)
    assert there.status() == checkout.status() == ""


def test_environment_of_before_stamps_is_kept_where_it_was_made_here(checkout: Checkout) -> None:
    mark = checkout.folder / ".venv" / "mark"
    mark.touch()
    (checkout.folder / ".venv" / ".ready").write_text("")
    assert "installing what differs" in checkout.status()
    assert mark.exists()
    assert checkout.status() == ""


def test_environment_on_another_disk_stays_linked(checkout: Checkout, tmp_path: Path) -> None:
    venv = checkout.folder / ".venv"
    venv.rename(tmp_path / "disk")
    venv.symlink_to(tmp_path / "disk")
    try:
        assert "Python packages" not in checkout.make("status")
        assert venv.is_symlink()
    finally:
        venv.unlink()
        (tmp_path / "disk").rename(venv)


def test_changed_lock_is_installed_by_the_next_command(checkout: Checkout) -> None:
    line = write_wheel(checkout.wheels, "another", "1.0", {"another.py": b""})
    with (checkout.folder / "requirements.lock").open("a") as lock:
        lock.write(line)
    assert "installing what differs" in checkout.status()
    assert list((checkout.folder / ".venv").glob("lib/python*/site-packages/another.py"))


def test_dependency_that_the_lock_has_not_names_the_command_that_brings_it(
    checkout: Checkout,
) -> None:
    path = checkout.folder / "pyproject.toml"
    lacking = ("packaging>999", "xgb; python_version > '3'", "no; python_version < '3'")
    wanted = ", ".join(f'"{text}"' for text in ("invoke", *lacking))
    path.write_text(path.read_text().replace('"invoke"', wanted))
    said = checkout.status()
    assert "asks for packaging>999, xgb; python_version > '3', and requirements.lock" in said
    assert "Run `make lock`, which writes requirements.lock; the next command installs it." in said


def test_packages_that_can_not_be_had_are_a_sentence(checkout: Checkout) -> None:
    with (checkout.folder / "requirements.lock").open("a") as lock:
        lock.write(f"nowhere==1.0 --hash=sha256:{'0' * 64}\n")
    said = checkout.make("status", code=2)
    assert "can't install its packages (code 1, the reason is above); see that an index" in said
    assert "Traceback" not in said
    assert "can't install its packages" in checkout.make("status", code=2)  # it is not fresh


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with an environment, as far as `reason` looks at it, in which one stands."""
    monkeypatch.chdir(make_place(tmp_path / "place"))
    return tmp_path / "place"


def make_place(folder: Path) -> Path:
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / "requirements.lock").touch()
    for name, text in {
        ".ready": f"folder {folder}\nmachine {os.uname().sysname} {os.uname().machine}\n",
        ".python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "bin/activate": f'VIRTUAL_ENV="{folder}/.venv"\nexport VIRTUAL_ENV\n',
    }.items():
        (folder / ".venv" / name).write_text(text)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    return folder


@pytest.mark.parametrize("stamp", ["written", "empty", "none"])
@pytest.mark.parametrize("how", ["copied", "moved", "moved, and another took its place"])
def test_environment_elsewhere_is_made_anew_with_a_stamp_and_without(
    how: str, stamp: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reason() == ""
    ready = place / ".venv" / ".ready"
    if stamp != "written":  # of before stamps, or stopped in the middle
        ready.write_text("") if stamp == "empty" else ready.unlink()
    assert reason() == ""
    if how == "copied":
        shutil.copytree(place, tmp_path / "there", symlinks=True)
    else:
        place.rename(tmp_path / "there")
    if "another" in how:
        make_place(place)
    monkeypatch.chdir(tmp_path / "there")
    assert f"is that of {place}" in reason()


def test_environment_of_another_machine_or_python_is_made_anew(place: Path) -> None:
    venv = place / ".venv"
    stamp = (venv / ".ready").read_text()
    (venv / ".ready").write_text(re.sub(r"(?m)^machine .*", "machine Plan9 mips", stamp))
    assert "was made for Plan9 mips, and this is" in reason()
    (venv / ".ready").write_text(stamp)
    (venv / ".python").write_text("3.8")
    assert "the environment has Python 3.8" in reason()
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to("/nowhere/python")
    assert "no Python that still exists" in reason()


def test_linked_environment_of_another_checkout_is_left_to_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a worktree: making it anew would take the other one's away."""
    there = tmp_path / "worktree"
    there.mkdir()
    (there / ".venv").symlink_to(place / ".venv")
    monkeypatch.chdir(there)
    leave_shared()
    assert f".venv was a link to the environment of {place}" in capsys.readouterr().out
    assert not (there / ".venv").exists()
    assert (place / ".venv" / ".ready").exists()


def test_environment_that_is_linked_from_where_it_belongs_stays(
    place: Path, tmp_path: Path
) -> None:
    (place / ".venv").rename(tmp_path / "disk")
    (place / ".venv").symlink_to(tmp_path / "disk")
    leave_shared()
    assert (place / ".venv").is_symlink()
    assert reason() == ""


@pytest.mark.parametrize("task", ["down", "doctor", "reset"])
def test_task_by_the_python_of_another_checkout_is_refused(task: str, tmp_path: Path) -> None:
    """As in an activated shell: `invoke down` would run the other one's code."""
    (tmp_path / "src" / "terraflow").mkdir(parents=True)
    (tmp_path / "src" / "terraflow" / "__init__.py").touch()
    for name in ("tasks.py", "Procfile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "invoke", task],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"has terraflow of {ROOT}/src/terraflow, but you stand in {tmp_path}" in done.stderr
    assert "Traceback" not in done.stderr
