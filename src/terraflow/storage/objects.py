"""URIs to bytes, local or S3, behind one interface; a name appears when its object is whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import obstore
import psutil
from obstore.exceptions import BaseError
from obstore.store import HTTPStore, LocalStore

from terraflow.console import command
from terraflow.credentials import read_secrets, store_environment
from terraflow.disks.problems import disk_errors
from terraflow.errors import StorageError
from terraflow.files import give_users_mode, make_dir
from terraflow.settings import Settings
from terraflow.storage.buckets import open_bucket

__all__ = ["Storage", "join"]

#: GDAL would take a twentieth of the machine's memory.
GDAL_CACHE_MB = 256


def join(uri: str, *parts: str) -> str:
    """Append parts to a URI or path."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


class Storage:
    """Objects of the configured store, local files, and read-only HTTP.

    Parameters
    ----------
    settings : Settings
        Tell endpoint and credentials of s3:// URIs.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def read(self, uri: str) -> bytes:
        """Read a whole object.

        Raises
        ------
        StorageError
            It is missing or can't be read.
        """
        store, key = self._open(uri)
        try:
            return bytes(obstore.get(store, key).bytes())
        except (BaseError, OSError) as error:
            raise _failed("read", uri, error) from error

    def digest(self, uri: str) -> str:
        """Compute the SHA-256 of an object, as hexadecimal digits, without holding it in memory.

        Raises
        ------
        StorageError
            It is missing or can't be read.
        """
        store, key = self._open(uri)
        digest = hashlib.sha256()
        try:
            for chunk in obstore.get(store, key).stream():
                digest.update(chunk)
        except (BaseError, OSError) as error:
            raise _failed("read", uri, error) from error
        return digest.hexdigest()

    def write(self, uri: str, data: bytes | Path) -> str:
        """Write a whole object, from memory or from a local file.

        Returns
        -------
        str
            The URI.

        Raises
        ------
        StorageError
            It can't be written; nothing then has the name.
        """
        store, key = self._open(uri)
        try:
            obstore.put(store, key, data)
            if "://" not in uri and not Path(uri).is_relative_to(self.settings.var):
                give_users_mode(Path(uri))
        except (BaseError, OSError) as error:
            raise _failed("written", uri, error) from error
        return uri

    def check_writable(self, uri: str) -> None:
        """See that an object of this name could be written, before long work for it.

        Raises
        ------
        StorageError
            It could not.
        """
        trial = f"{uri}.writable"
        try:
            if "://" in uri:
                self.write(trial, b"")
                obstore.delete(*self._open(trial))
            else:  # by the system itself, since obstore tries for ever where it can't make a file
                Path(uri).parent.mkdir(parents=True, exist_ok=True)
                Path(trial).touch()
                Path(trial).unlink()
        except OSError as error:
            raise _failed("written", uri, error) from error

    def exists(self, uri: str) -> bool:
        """Tell whether there is such an object.

        Raises
        ------
        StorageError
            The store does not answer.
        """
        store, key = self._open(uri)
        try:
            obstore.head(store, key)
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise _failed("read", uri, error) from error
        return True

    def list_folder(self, uri: str) -> dict[str, datetime]:
        """List the objects right in a folder, without those of folders below it.

        Returns
        -------
        dict
            URI to the time of its last change; empty where there is no such folder.

        Raises
        ------
        StorageError
            The store does not answer.
        """
        store, key = self._open(join(uri))
        try:
            found = obstore.list_with_delimiter(store, f"{key}/")["objects"]
        except FileNotFoundError:
            return {}
        except (BaseError, OSError) as error:
            raise _failed("read", uri, error) from error
        return {
            join(uri, entry["path"].rpartition("/")[2]): entry["last_modified"] for entry in found
        }

    def upload_folder(self, folder: Path, uri: str, *, last: str) -> str:
        """Copy a folder; the file named `last` comes last, as the mark that all is there.

        Returns
        -------
        str
            URI of the file named `last`.

        Raises
        ------
        StorageError
            A file can't be written; the last one then is not there.
        """
        paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p != folder / last]
        for path in [*paths, folder / last]:
            self.write(join(uri, path.relative_to(folder).as_posix()), path)
        return join(uri, last)

    @property
    def scratch_dir(self) -> Path:
        """Folder of temporary folders, which `scratch` makes."""
        return self.settings.var / "tmp"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a temporary folder beside the store's state, removed at the end.

        Those of processes that were killed are removed at the next one's beginning.

        Raises
        ------
        StorageError
            The disk is full, or the folder can't be written.
        """
        folder = self.scratch_dir
        try:
            make_dir(folder)
            for left in folder.iterdir():
                pid = left.name.partition("-")[0]
                if pid.isdecimal() and not psutil.pid_exists(int(pid)):
                    shutil.rmtree(left, ignore_errors=True)
            with (
                tempfile.TemporaryDirectory(dir=folder, prefix=f"{os.getpid()}-") as name,
                # before what was written goes, and with it the proof
                disk_errors(lambda: self.settings.folders),
            ):
                yield Path(name)
        except OSError as error:
            raise _failed("written", error.filename or str(folder), error) from error

    @contextmanager
    def gdal(self) -> Iterator[None]:
        """Let GDAL read s3:// URIs of the store."""
        import rasterio  # noqa: PLC0415 - slow, and not needed for bytes
        from rasterio.session import AWSSession  # noqa: PLC0415

        options = {
            key: value
            for key, value in store_environment(self.settings).items()
            if key in ("AWS_HTTPS", "AWS_VIRTUAL_HOSTING", "AWS_S3_ENDPOINT")
        }
        session = None
        if self.settings.store == "minio":
            secret = read_secrets(self.settings)
            session = AWSSession(
                aws_access_key_id=secret["minio_user"],
                aws_secret_access_key=secret["minio_password"],
                region_name=self.settings.s3.region,
            )
        with rasterio.Env(
            session=session,
            GDAL_CACHEMAX=GDAL_CACHE_MB,
            GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
            **options,
        ):
            yield

    def _open(self, uri: str) -> tuple[Any, str]:
        scheme, found, rest = uri.partition("://")
        if not found or scheme == "file":
            path = Path(rest if found else uri).absolute()
            return LocalStore("/"), path.as_posix().lstrip("/")
        if scheme in ("http", "https"):
            # the store writes its keys with %, so that one that is written so is read first
            parts = urlsplit(uri)
            folder, _, name = parts.path.rpartition("/")
            base = urlunsplit((scheme, parts.netloc, folder, parts.query, ""))
            return HTTPStore(base, client_options={"allow_http": True}), unquote(name)
        if scheme != "s3":
            raise StorageError(
                f"{uri} can't be opened: {scheme} is not known; use a path, s3://, http:// or "
                "https://."
            )
        bucket, _, key = rest.partition("/")
        return open_bucket(bucket, self.settings), key


def _failed(what: str, uri: str, error: Exception) -> StorageError:
    text = str(error).splitlines()[0].partition("Debug source")[0].strip()
    if isinstance(error, FileNotFoundError) and what == "read":
        return StorageError(f"{uri} does not exist; check the path or URI.")
    remedy = f"check that the store runs (`{command('status')}`) and the credentials"
    if "://" not in uri:
        remedy = "check the path and its mode"
    if "error sending request" in str(error):
        text = "nothing answers at its address"
    full = ("No space left", "os error 28", "StorageFull", "minimum free drive")
    if isinstance(error, OSError) and error.errno:
        text, remedy = os.strerror(error.errno), "check the path and its mode"
    if any(sign in str(error) for sign in full):
        text, remedy = "the disk is full", "free space and run it again"
    failed = StorageError(f"{uri} can't be {what}: {text}; {remedy}.")
    failed.filename = None if "://" in uri else uri
    return failed
