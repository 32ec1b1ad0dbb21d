"""The rows of a table, sent from SQLite to PostgreSQL and compared there."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Connection, Table, Text, cast, column, insert, select, table

from terraflow.errors import first_line

__all__ = ["Rows"]

BATCH = 1000


def _whole(value: Any) -> int:
    if int(value) != value:
        raise ValueError("a fraction, where a whole number was expected")
    return int(value)


def _truth(value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError("neither 0 nor 1, where one of them was expected")
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__}, where text was expected")
    return value


def _json(value: Any) -> str:
    """Give the text again of which SQLite made a number, as it does in a JSON column."""
    return value if isinstance(value, str) else json.dumps(value)


def _moment(value: Any) -> datetime:
    """Read a time without a zone as UTC: so both programs write it to SQLite."""
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


#: Kind of a column of PostgreSQL to what makes its value of SQLite's.
CONVERT: dict[str, Callable[[Any], Any]] = {
    "BIGINT": _whole,
    "BOOLEAN": _truth,
    "BYTEA": bytes,
    "DATE": date.fromisoformat,
    "DOUBLE_PRECISION": float,
    "INTEGER": _whole,
    "JSON": _json,
    "JSONB": _json,
    "TEXT": _text,
    "TIMESTAMP": _moment,
    "UUID": lambda value: str(uuid.UUID(value)),
    "VARCHAR": _text,
}
#: Kind of a column to what makes the same of values that mean the same.
EVEN: dict[str, Callable[[Any], Any]] = {
    "BYTEA": bytes,
    "JSONB": lambda value: json.dumps(json.loads(value, parse_int=float), sort_keys=True),
    "TIMESTAMP": _moment,
}


class Rows:
    """The rows of one table on both sides, without what the database itself computes.

    Parameters
    ----------
    one : Table
        As PostgreSQL has it.

    Raises
    ------
    ValueError
        A column is of a kind that is not known here.
    """

    def __init__(self, one: Table) -> None:
        self.name = one.name
        self.kinds = {
            name: type(found.type).__name__
            for name, found in one.columns.items()
            if not found.computed
        }
        if unknown := set(self.kinds.values()) - set(CONVERT):
            raise ValueError(f"columns of the unknown kind {', '.join(sorted(unknown))}")

    def send(self, source: sqlite3.Connection, target: Connection) -> tuple[int, str]:
        """Send all rows; give their number and hash.

        Raises
        ------
        ValueError
            A value does not fit its column.
        """
        names = ", ".join(f'"{name}"' for name in self.kinds)
        cursor = source.execute(f'SELECT {names} FROM "{self.name}"')  # noqa: S608 - our own names
        statement = insert(table(self.name, *map(column, self.kinds)))

        def sent() -> Iterator[list[Any]]:
            while batch := cursor.fetchmany(BATCH):
                rows = [self._each(CONVERT, row) for row in batch]
                target.execute(statement, [dict(zip(self.kinds, row, strict=True)) for row in rows])
                yield from rows

        return self._digest(sent())

    def read(self, target: Connection) -> tuple[int, str]:
        """Read all rows; give their number and hash."""
        columns = [
            cast(column(name), Text) if kind in ("JSON", "JSONB", "UUID") else column(name)
            for name, kind in self.kinds.items()
        ]
        statement = select(*columns).select_from(table(self.name))
        return self._digest(target.execute(statement, execution_options={"yield_per": BATCH}))

    def _digest(self, rows: Iterable[Sequence[Any]]) -> tuple[int, str]:
        """Give number and hash, the same in any order."""
        count, total = 0, 0
        for row in rows:
            count += 1
            told = repr(self._each(EVEN, row)).encode()
            total += int.from_bytes(hashlib.sha256(told).digest())
        return count, f"{total % 2**256:064x}"

    def _each(self, functions: Mapping[str, Callable[[Any], Any]], row: Sequence[Any]) -> list[Any]:
        values = []
        for (name, kind), value in zip(self.kinds.items(), row, strict=True):
            try:
                known = value is not None and kind in functions
                values.append(functions[kind](value) if known else value)
            except (ValueError, TypeError) as error:
                raise ValueError(f"column {name} has {first_line(error)}") from error
        return values
