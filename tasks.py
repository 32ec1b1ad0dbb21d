"""The tasks of this project: `invoke --list`. The platform brings its own, in `terraflow.tasks`."""

from __future__ import annotations

from terraflow.tasks import namespace

__all__ = ["namespace"]

# Room for the project's own tasks. With `from terraflow.tasks.task import task`, an error that is
# meant for the user becomes a sentence and an exit code:
#
#     @task(help={"year": "as in --year 2024"})
#     def export(c: Context, year: str) -> None:
#         """Bring the maps of a year to the archive."""
#
#     namespace.add_task(export)
