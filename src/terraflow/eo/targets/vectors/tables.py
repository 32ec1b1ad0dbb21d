"""Tables as text, however they are separated, and Parquet with or without geometries."""

from __future__ import annotations

import io
import json
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyarrow.parquet

from terraflow.errors import DataError

__all__ = ["PARQUET", "TEXT", "read_parquet", "read_text"]

TEXT = {".csv", ".tsv", ".txt"}
PARQUET = {".parquet", ".geoparquet", ".pq"}
SAMPLE_BYTES = 100_000


def read_text(path: Path, shown: str) -> pd.DataFrame:
    """Read a table separated by commas, semicolons, tabs or bars, in UTF-8 or else Latin-1.

    Returns
    -------
    DataFrame
        Of str; what is empty is "".

    Raises
    ------
    DataError
        It is no such table.
    """
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    head = text[:SAMPLE_BYTES].partition("\n")[0]
    counts = {mark: head.count(mark) for mark in (";", "\t", ",", "|")}
    separator = max(counts, key=lambda mark: counts[mark])
    try:
        table = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            f"{shown} is no table that can be read: {str(error).strip()}; expected a line of names "
            "and a line for each point, all with the same number of columns."
        ) from error
    return table.rename(columns=lambda name: str(name).strip())


def read_parquet(path: Path, shown: str) -> gpd.GeoDataFrame | pd.DataFrame:
    """Read GeoParquet, or a table without geometries.

    Raises
    ------
    DataError
        It can't be read.

    References
    ----------
    https://geoparquet.org/releases/v1.1.0/
    """
    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        if b"geo" not in metadata:
            return pd.read_parquet(path)
        json.loads(metadata[b"geo"])
        return gpd.read_parquet(path)
    except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{shown} can't be read as GeoParquet: {str(error).splitlines()[0]}; write it again, "
            "or as GeoPackage or GeoJSON."
        ) from error
