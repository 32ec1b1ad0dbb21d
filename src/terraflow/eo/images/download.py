"""Copies of images, clipped to the area, as cloud-optimised GeoTIFFs in the store."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pystac
import rasterio
import requests
from rasterio.errors import NotGeoreferencedWarning

from terraflow.console import progress, say
from terraflow.eo.config.addresses import without_query
from terraflow.eo.config.bounds import Bounds
from terraflow.eo.images.assets import Image
from terraflow.eo.images.clip import (
    UnreadableError,
    describe,
    read_bounds,
    reading,
    write_clip,
)
from terraflow.eo.images.sources.local_files import refuse_several
from terraflow.errors import DataError, StorageError
from terraflow.storage import Storage

__all__ = ["Copy", "Downloader"]

TEMPORARY = (408, 425, 429)  # and 5xx
LONGEST_PAUSE_S = 120.0


@dataclass(frozen=True)
class Copy:
    """What became of an image.

    Attributes
    ----------
    asset : pystac.Asset or None
        The copy; None where the image does not reach the area.
    bounds : tuple of float
        West, south, east, north in degrees, of the copy or else of the image.
    remarks : tuple of str
        What is remarkable about its nodata, if it was copied now.
    """

    asset: pystac.Asset | None
    bounds: Bounds
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Downloader:
    """Copies images into the store, several at once.

    Attributes
    ----------
    storage : Storage
    bounds : tuple of float or None
        West, south, east, north in degrees (EPSG:4326) of what is copied; None copies all.
    sign : callable
        Signs an address just before it is read, since signatures expire.
    tries : int
        Of an image, where its server has a fault that may pass.
    pause_s : float
        After the first try; doubles each time. A server's Retry-After counts if it is longer.
    timeout_s : int
        After so long without a byte a try has failed.
    threads : int
    """

    storage: Storage
    bounds: Bounds | None = None
    sign: Callable[[str], str] = str
    tries: int = 5
    pause_s: float = 1.0
    timeout_s: int = 30
    threads: int = 8
    stop: threading.Event = field(default_factory=threading.Event)

    def copy_all(self, images: dict[str, Image]) -> Iterator[tuple[str, Copy]]:
        """Copy images, with a progress bar, and say what is remarkable about their nodata.

        Parameters
        ----------
        images : dict
            URI of the copy to the image; a copy that is there is not made again.

        Yields
        ------
        str, Copy
            URI and what became of it, in the order of completion.

        Raises
        ------
        DataError
            An image can't be read. What is under way is finished and yielded before, the rest is
            left; another run goes on from there.
        """
        failed = threading.Event()

        def work(image: Image, uri: str) -> Copy | None:
            if failed.is_set():
                return None
            try:
                return self.copy(image, uri)
            except BaseException:
                failed.set()
                raise

        errors: list[DataError] = []
        remarks: dict[str, list[str]] = {}
        with (
            progress(len(images), "ingest", "images") as bar,
            ThreadPoolExecutor(self.threads) as pool,
            warnings.catch_warnings(),
        ):
            # what it says of files without a grid is an error here
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            futures = {pool.submit(work, image, uri): uri for uri, image in images.items()}
            try:
                for future in as_completed(futures):
                    try:
                        copy = future.result()
                    except DataError as error:
                        errors.append(error)
                        continue
                    if copy:
                        bar.update(1)
                        for remark in copy.remarks:
                            remarks.setdefault(remark, []).append(images[futures[future]].key)
                        yield futures[future], copy
            except BaseException:  # Ctrl+C also: don't wait for pauses and long reads
                self.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for remark, keys in sorted(remarks.items()):
            many = "s" if len(keys) > 1 else ""
            say(f"{len(keys)} image{many} ({', '.join(sorted(set(keys)))}): {remark}")
        if errors:
            raise errors[0]

    def copy(self, image: Image, uri: str) -> Copy:
        """Copy one image, unless its copy is there.

        Returns
        -------
        Copy
            A single-band COG: the window of the image's pixels that covers the bounds, on its own
            grid, without resampling.

        Raises
        ------
        DataError
            The image can't be read, or has no CRS.
        StorageError
            The store can't be written.
        """
        with self.storage.scratch() as folder:
            cog, remarks = folder / "image.tif", []
            if self.storage.exists(uri):
                cog.write_bytes(self.storage.read(uri))
            else:
                found = self._fetch(image, cog)
                if isinstance(found, tuple):
                    return Copy(None, found)
                remarks = found
                self.storage.write(uri, cog)
            return Copy(*describe(cog, uri), tuple(remarks))

    def _fetch(self, image: Image, cog: Path) -> list[str] | Bounds:
        """Try until it succeeds; give remarks, or the image's bounds if it is outside the area."""
        for number in itertools.count(1):
            try:
                with self._gdal(image.href):
                    return self._copy_window(image, cog)
            except UnreadableError as error:
                fault = self._diagnose(image.href)
                if number >= self.tries or not fault.temporary or self.stop.is_set():
                    raise _failed(image, fault.reason or str(error), number) from None
            pause_s = max(self.pause_s * 2 ** (number - 1), fault.retry_after_s)
            self.stop.wait(min(pause_s, LONGEST_PAUSE_S))
        raise AssertionError  # it counts without an end

    @contextmanager
    def _gdal(self, href: str) -> Iterator[None]:
        options: dict[str, Any] = {
            # our own tries are the only ones: GDAL's leave out some of its ways to read
            "GDAL_HTTP_MAX_RETRY": 0,
            "GDAL_HTTP_CONNECTTIMEOUT": self.timeout_s,
            "GDAL_HTTP_LOW_SPEED_TIME": self.timeout_s,
            "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
            "CPL_VSIL_CURL_USE_HEAD": "NO",  # some signatures allow GET alone
            "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/",  # a failure is not remembered
        }
        if _is_local(href):  # sidecar files, such as world files, count
            options["GDAL_DISABLE_READDIR_ON_OPEN"] = "FALSE"
        with self.storage.gdal(), rasterio.Env(**options):
            yield

    def _copy_window(self, image: Image, cog: Path) -> list[str] | Bounds:
        with reading():
            file = rasterio.open(_gdal_name(self.sign(image.href)))
        with file:
            refuse_several(file, f"Asset {image.key} of item {image.item}")
            remarks = write_clip(file, image, self.bounds, cog, self.stop.is_set)
            return read_bounds(file) if remarks is None else remarks

    def _diagnose(self, href: str) -> _Fault:
        """Ask the server itself, since GDAL names a status only for a file's first bytes."""
        if _is_local(href):
            return _Fault(temporary=False)
        if href.startswith("s3://"):
            return self._diagnose_s3(href)
        try:
            with requests.get(
                self.sign(href),
                headers={"Range": "bytes=0-0"},
                stream=True,
                timeout=self.timeout_s,
            ) as answer:
                status, wait = answer.status_code, answer.headers.get("Retry-After", "")
        except requests.RequestException as error:
            return _Fault(temporary=True, reason=f"no answer, {type(error).__name__}")
        if status < 400:  # it answers now; what was read was cut off or is no image
            return _Fault(temporary=True)
        return _Fault(
            temporary=status in TEMPORARY or status >= 500,
            reason=f"HTTP {status}",
            retry_after_s=float(wait) if wait.isdecimal() else 0.0,
        )

    def _diagnose_s3(self, href: str) -> _Fault:
        try:
            there = self.storage.exists(href)
        except StorageError as error:
            return _Fault(temporary=True, reason=str(error).rstrip("."))
        return _Fault(temporary=there, reason="" if there else "it does not exist")


@dataclass(frozen=True)
class _Fault:
    temporary: bool
    reason: str = ""
    retry_after_s: float = 0.0


def _gdal_name(href: str) -> str:
    """Name an object as GDAL does, where rasterio would lose what follows a # in its name."""
    lost = href.startswith("s3://") and "#" in href
    return f"/vsis3/{href.removeprefix('s3://')}" if lost else href


def _is_local(href: str) -> bool:
    return "://" not in href or href.startswith("file://")


def _failed(image: Image, reason: str, tries: int) -> DataError:
    often = f" after {tries} tries" if tries > 1 else ""
    return DataError(
        f"Asset {image.key} of item {image.item} can't be read from {without_query(image.href)}"
        f"{often} ({reason}); check that the file is there and whole, then run it again: what is "
        "copied is kept."
    )
