from __future__ import annotations

from datetime import UTC, datetime

import pendulum
import pytest
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables.base import DataInterval, TimeRestriction

from terraflow.orchestration.assets import scenes
from terraflow.orchestration.schedules import DailyOrAssets


def months(earliest: str, latest: str) -> list[str]:
    """Ask as a backfill does; give the months of the runs."""
    restriction = TimeRestriction(pendulum.parse(earliest), pendulum.parse(latest), catchup=True)  # type: ignore[arg-type]
    schedule, last, found = DailyOrAssets(scenes("land_cover")), None, []
    while info := schedule.next_dagrun_info(
        last_automated_data_interval=last, restriction=restriction
    ):
        last = info.data_interval
        assert last
        assert last.end == last.start.add(months=1)
        found.append(f"{last.start:%Y-%m-%d}")
    return found


@pytest.mark.parametrize(
    ("earliest", "latest", "expected"),
    [
        ("2024-04-01", "2024-06-30", ["2024-04-01", "2024-05-01", "2024-06-01"]),
        ("2024-04-02", "2024-06-30", ["2024-05-01", "2024-06-01"]),
        ("2023-12-01", "2024-01-01", ["2023-12-01", "2024-01-01"]),
        ("2024-04-02", "2024-04-30", []),
    ],
)
def test_backfill_has_a_run_of_each_month_that_begins_in_it(
    earliest: str, latest: str, expected: list[str]
) -> None:
    assert months(earliest, latest) == expected


def test_schedule_is_daily_otherwise() -> None:
    schedule = DailyOrAssets(scenes("land_cover"), hour=5)
    last = DataInterval.exact(pendulum.datetime(2024, 4, 1, 5))
    info = schedule.next_dagrun_info(
        last_automated_data_interval=last,
        restriction=TimeRestriction(None, None, catchup=True)._replace(catchup=False),
    )
    assert info
    assert info.run_after >= datetime(2024, 4, 2, 5, tzinfo=UTC)
    assert (info.run_after.hour, info.run_after.minute) == (5, 0)


def test_schedule_survives_airflows_database() -> None:
    """Airflow finds the type by the plugin that the distribution brings."""
    schedule = DailyOrAssets(scenes("land_cover"), hour=7)
    again = decode_timetable(encode_timetable(schedule))
    assert isinstance(again, DailyOrAssets)
    assert again.hour == 7
    assert again.summary == "Asset or daily at 07:00"
    assert again.asset_condition == schedule.asset_condition
