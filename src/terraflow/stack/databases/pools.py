"""Airflow's pools: how many heavy tasks may run at once on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from terraflow.files import write_private
from terraflow.settings import Settings
from terraflow.stack.databases import postgres
from terraflow.stack.databases.addresses import address

__all__ = ["POOLS", "fit_pools", "write_pools"]

_CORES = os.cpu_count() or 1
#: Name to slots and what it is for; a training uses all cores, a map up to four threads.
POOLS = {
    "training": (max(1, _CORES // 4), "Trainings; each uses all cores."),
    "mapping": (_CORES, "Maps of scenes."),
}


def fit_pools(settings: Settings, variables: Mapping[str, str]) -> None:
    """Write Airflow's pools, once on each machine and database.

    Parameters
    ----------
    variables : mapping
        Environment of a process of the stack.

    Raises
    ------
    ServiceError
        PostgreSQL is asked for and does not start.
    """
    url = address(settings, "airflow")
    stamp, wanted = settings.var / "airflow" / "pools", f"{url} {POOLS}"
    if not stamp.exists() or stamp.read_text() != wanted:
        with postgres.running(settings, variables):
            write_pools(url)
        write_private(stamp, wanted)


def write_pools(url: str) -> None:
    """Fit the pools in Airflow's database to this machine.

    Written straight, since Airflow's own command takes seconds to start; a pool that is not
    TerraFlow's stays as it is.

    Parameters
    ----------
    url : str
        SQLAlchemy's, of Airflow's database.
    """
    import sqlalchemy as sa  # noqa: PLC0415 - slow, and needed once on each machine

    columns: list[Any] = [
        sa.column(name) for name in ("pool", "slots", "description", "include_deferred")
    ]
    table = sa.table("slot_pool", *columns)
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            for name, (slots, description) in POOLS.items():
                here = table.c.pool == name
                values = {"slots": slots, "description": description}
                if not connection.execute(sa.update(table).where(here).values(values)).rowcount:
                    new = values | {"pool": name, "include_deferred": False}
                    connection.execute(sa.insert(table).values(new))
    finally:
        engine.dispose()
