"""Find MinIO, or build it with a `go` that is a script: the real one takes minutes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from harness import hear_ctrl_c, wait_for
from terraflow.errors import ServiceError
from terraflow.lock import Lock
from terraflow.settings import load
from terraflow.stack import minio
from terraflow.stack.minio import MODULE, cached, can_build, ensure, find, is_reachable, main
from terraflow.stack.setup import decide_store

Program = Callable[[str, str], Path]
#: A build that leaves what it was given beside its result.
BUILD = 'echo "$GOBIN $CGO_ENABLED $*"; printf "#!/bin/sh\\n" > "$GOBIN/minio"'


@pytest.fixture(autouse=True)
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder that is all of PATH; the cache is empty, too."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def program(bin_dir: Path) -> Program:
    """Put a program on PATH."""

    def write(name: str, script: str) -> Path:
        path = bin_dir / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return write


def in_cache() -> Path:
    cached().parent.mkdir(parents=True)
    cached().write_text("")
    return cached()


def refuse(line: str) -> None:
    pytest.fail(f"said {line}")


def test_cached_folder_has_the_commit_of_the_version(tmp_path: Path) -> None:
    commit = MODULE.rpartition("-")[2]
    assert cached() == tmp_path / "cache" / "terraflow" / f"minio-{commit}" / "minio"


def test_find_nowhere_is_none() -> None:
    assert find() is None


def test_find_in_the_cache() -> None:
    binary = in_cache()
    assert find() == binary


def test_find_on_path_comes_before_the_cache(program: Program) -> None:
    in_cache()
    binary = program("minio", "")
    assert find() == binary


def test_can_build_only_with_go(program: Program) -> None:
    assert not can_build()
    program("go", "")
    assert can_build()


def test_ensure_with_a_binary_builds_nothing(program: Program) -> None:
    program("go", "exit 1")
    binary = program("minio", "")
    assert ensure(refuse) == binary


def test_ensure_without_a_binary_and_go_gives_both_remedies() -> None:
    with pytest.raises(ServiceError, match=r'store = "minio" needs .* on PATH .* install Go 1\.24'):
        ensure(refuse)
    assert not cached().parent.exists()


def test_ensure_with_go_builds_into_the_cache(program: Program) -> None:
    program("go", BUILD)
    said: list[str] = []
    assert ensure(said.append) == cached() == find()
    log = cached().parent / "build.log"
    assert said == [
        f"MinIO: building {MODULE} with Go; about 5 minutes on 2 cores, once (log: {log})",
        "MinIO: built",
    ]
    target, cgo, *words = log.read_text().split()
    assert (cgo, words) == ("0", ["install", "-v", "-trimpath", "-ldflags=-s", "-w", MODULE])
    assert not Path(target).exists()  # the temporary folder
    left = {path.name for path in cached().parent.iterdir()}
    assert left == {"minio", "build.log", "build.lock"}
    assert ensure(refuse) == cached()


def test_ensure_build_that_fails_tells_code_and_last_lines(program: Program) -> None:
    program("go", "for n in 1 2 3 4; do echo line $n; done; exit 7")
    with pytest.raises(ServiceError) as caught:
        ensure(lambda _line: None)
    told = str(caught.value)
    assert told.startswith("Building MinIO failed with code 7: line 2 | line 3 | line 4; see ")
    assert f"{cached().parent / 'build.log'}, or install a `minio` server binary" in told
    assert {p.name for p in cached().parent.iterdir()} == {"build.log", "build.lock"}
    assert not Lock(cached().parent / "build.lock").is_held()


def test_ensure_after_a_failed_build_builds_anew(program: Program) -> None:
    program("go", "exit 1")
    with pytest.raises(ServiceError, match="failed with code 1"):
        ensure(lambda _line: None)
    program("go", BUILD)
    assert ensure(lambda _line: None) == cached()


def test_ensure_while_another_builds_waits_and_takes_its_binary(program: Program) -> None:
    program("go", "exit 1")
    lock = Lock(cached().parent / "build.lock")
    assert lock.acquire()
    said: list[str] = []
    found: list[Path] = []
    waiting = threading.Thread(target=lambda: found.append(ensure(said.append)))
    waiting.start()
    wait_for(lambda: said, 10)
    assert said == [f"Waiting for the build of MinIO that process {os.getpid()} is running"]
    cached().write_text("")
    lock.release()
    waiting.join(10)
    assert found == [cached()]


def test_ensure_killed_takes_its_build_along(program: Program, tmp_path: Path) -> None:
    program("go", f"echo $$ > {tmp_path}/new; /bin/mv {tmp_path}/new {tmp_path}/pid; /bin/sleep 60")
    process = start()
    try:
        wait_for((tmp_path / "pid").exists, 20)
        build = psutil.Process(int((tmp_path / "pid").read_text()))
    finally:
        process.kill()
        process.communicate()
    wait_for(lambda: not is_alive(build), 10)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def start() -> subprocess.Popen[str]:
    """Run the module as `make` does."""
    return subprocess.Popen(
        [sys.executable, "-m", "terraflow.stack.minio"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )


def set_store(folder: Path, store: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "terraflow.toml").write_text(f'store = "{store}"\n')


@pytest.mark.parametrize("store", ["", "minio"])
def test_main_with_a_store_that_may_be_minio_builds(
    store: str, program: Program, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if store:
        monkeypatch.setenv("TERRAFLOW_STORE", store)
    program("go", BUILD)
    assert main([]) == 0
    assert cached().exists()
    assert capfd.readouterr().out.endswith("MinIO: built\n")


@pytest.mark.parametrize(
    ("stores", "built"),
    [
        (("local", "", ""), False),
        (("", "s3", ""), False),
        (("", "", "local"), False),
        (("", "minio", "local"), False),
        (("", "local", "minio"), True),
        (("minio", "local", "s3"), True),
    ],
)
def test_main_takes_the_store_that_setup_will_take(
    stores: tuple[str, str, str],
    built: bool,
    program: Program,
    config_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shell, shared, local = stores
    if shell:
        monkeypatch.setenv("TERRAFLOW_STORE", shell)
    for folder, store in ((config_dir, shared), (config_dir / "local", local)):
        if store:
            set_store(folder, store)
    program("go", BUILD)
    assert main([]) == 0
    assert cached().exists() is built


def test_main_without_a_binary_and_go_leaves_it_to_setup(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    assert capfd.readouterr().out == ""


def test_module_build_that_fails_is_a_sentence(program: Program) -> None:
    program("go", "echo no network; exit 1")
    process = start()
    _, told = process.communicate(timeout=30)
    assert process.returncode == 1
    assert told.startswith("Building MinIO failed with code 1: no network; see ")


def test_module_wrong_config_is_a_sentence(config_dir: Path) -> None:
    (config_dir / "terraflow.toml").write_text("store =")
    process = start()
    _, told = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "terraflow.toml is not valid TOML" in told
    assert "Traceback" not in told


def test_module_ctrl_c_is_code_130(program: Program, tmp_path: Path) -> None:
    program("go", f": > {tmp_path}/began; exec /bin/sleep 60")
    process = start()
    wait_for((tmp_path / "began").exists, 20)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, "")


def test_minio_module_needs_only_the_standard_library() -> None:
    others = {"pydantic", "psutil", "tqdm"}
    code = f"import sys, terraflow.stack.minio; print({others} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_build_is_followed_by_lines_that_tell_how_far_it_is(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minio, "TELL_S", 0.3)
    program("go", f"echo 'go: downloading a v1'; echo io; echo net; /bin/sleep 1; {BUILD}")
    said: list[str] = []
    assert ensure(said.append)
    assert "MinIO: 0 s, 1 modules fetched, 2 packages compiled" in said


def test_build_until_a_file_is_there_stops_and_the_next_goes_on(
    program: Program, tmp_path: Path
) -> None:
    program("go", f"/bin/touch {tmp_path}/ready; exec /bin/sleep 60")
    assert main(["--until", str(tmp_path / "ready")]) == 0
    assert not cached().exists()
    assert not Lock(cached().parent / "build.lock").is_held()
    program("go", BUILD)
    assert ensure(lambda _line: None) == cached()


def test_main_server_builds_and_becomes_the_server(program: Program, tmp_path: Path) -> None:
    server = tmp_path / "server"
    server.write_text("#!/bin/sh\necho I am $0 with $*\n")
    program("go", f'/bin/cp {server} "$GOBIN/minio"; /bin/chmod +x "$GOBIN/minio"')
    done = subprocess.run(
        [sys.executable, "-m", "terraflow.stack.minio", "server", "--quiet"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith(f"MinIO: built\nI am {cached()} with server --quiet\n")


def test_is_reachable_asks_go(program: Program) -> None:
    assert not is_reachable()
    program("go", '[ "$*" = "list -m ' + MODULE + '" ]')
    assert is_reachable()
    program("go", "exit 1")
    assert not is_reachable()


@pytest.mark.parametrize(("go", "store"), [(BUILD, "minio"), ("exit 1", "local")])
def test_store_that_is_not_waited_for_is_minio_only_where_go_gets_its_source(
    go: str, store: str, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    program("go", go)
    assert decide_store(load(), wait=False).store == store
    assert not cached().exists()  # its service builds it
    assert ("MinIO can't be had here" in capsys.readouterr().out) == (store == "local")
