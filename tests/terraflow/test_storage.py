from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from terraflow.errors import StorageError
from terraflow.settings import Settings
from terraflow.storage import Storage, join


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage(settings)


def test_write_then_read(storage: Storage, tmp_path: Path) -> None:
    uri = storage.write(join(str(tmp_path), "a", "b.bin"), b"data")
    assert storage.read(uri) == b"data"
    assert storage.read(f"file://{uri}") == b"data"
    assert storage.exists(uri)


def test_write_a_file(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 3_000_000)
    storage.write(str(tmp_path / "target"), tmp_path / "source")
    assert (tmp_path / "target").read_bytes() == b"x" * 3_000_000


def test_exists_of_nothing_is_false(storage: Storage, tmp_path: Path) -> None:
    assert not storage.exists(str(tmp_path / "nothing"))


def test_read_missing_names_it(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nothing does not exist"):
        storage.read(str(tmp_path / "nothing"))


def test_write_where_it_can_not_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(StorageError, match="can't be written"):
        storage.write(str(tmp_path / "file" / "below"), b"new")
    assert (tmp_path / "file").read_text() == "old"


def test_unknown_scheme_lists_the_known(storage: Storage) -> None:
    with pytest.raises(StorageError, match="ftp is not known; use a path, s3://"):
        storage.read("ftp://example.org/file")


def test_upload_folder_writes_the_mark_last(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.txt", "mark.json", "z.txt"):
        (folder / name).write_text(name)
    order: list[str] = []
    write = storage.write

    def spy(uri: str, data: bytes | Path) -> str:
        order.append(uri.rsplit("/", 1)[1])
        return write(uri, data)

    monkeypatch.setattr(storage, "write", spy)
    storage.upload_folder(folder, str(tmp_path / "target"), last="mark.json")
    assert order == ["a.txt", "z.txt", "mark.json"]


def test_read_over_http_and_a_server_that_is_gone(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "catalog.json").write_text("{}")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    assert storage.read(f"{base}/catalog.json") == b"{}"
    with pytest.raises(StorageError, match="does not exist"):
        storage.read(f"{base}/nothing.json")
    server.shutdown()
    server.server_close()


def test_scratch_is_removed_after_an_error(storage: Storage) -> None:
    kept = []

    def fail() -> None:
        with storage.scratch() as folder:
            kept.append(folder)
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert not kept[0].exists()


def test_scratch_removes_what_a_killed_process_left(storage: Storage) -> None:
    code = (
        "import os, signal; from terraflow.settings import load; "
        "from terraflow.storage import Storage; "
        "scratch = Storage(load()).scratch(); folder = scratch.__enter__(); "
        "(folder / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    [left] = (storage.settings.var / "tmp").iterdir()
    assert (left / "half").exists()
    with storage.scratch() as mine, storage.scratch() as another:
        assert {mine, another} == set((storage.settings.var / "tmp").iterdir())


def test_check_writable_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    storage.check_writable(str(tmp_path / "maps" / "map.tif"))
    assert not list((tmp_path / "maps").iterdir())


def test_check_writable_file_in_place_of_a_folder_is_refused(
    storage: Storage, tmp_path: Path
) -> None:
    (tmp_path / "maps").write_text("")
    with pytest.raises(
        StorageError,
        match=r"maps/map\.tif can't be written: (File|Not a)",
    ):
        storage.check_writable(str(tmp_path / "maps" / "map.tif"))


def test_check_writable_place_that_takes_no_file_is_refused(storage: Storage) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc, where nobody can make a file")
    with pytest.raises(StorageError, match=r"/proc/map\.tif can't be written"):
        storage.check_writable("/proc/map.tif")


@pytest.mark.parametrize(
    ("store", "variables", "told"),
    [
        (None, {}, r"There is no store yet, since the first `.* up` chooses its kind; run it, or"),
        ("local", {}, 'can\'t be opened with store = "local"; set store = "s3", or name files of'),
        ("s3", {}, "Credentials for s3://eo can't be read: there are none; set AWS_ACCESS_KEY_ID"),
        ("s3", {"AWS_PROFILE": "nobody"}, r"can't be read: .*\(nobody\).*; set AWS_ACCESS_KEY_ID"),
    ],
)
def test_bucket_that_nobody_gets_into_is_a_sentence(
    store: str | None,
    variables: dict[str, str],
    told: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match=told):
        Storage(settings.model_copy(update={"store": store})).read("s3://eo/object")
