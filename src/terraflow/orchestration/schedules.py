"""Schedules beyond Airflow's own; Airflow finds them by the plugin."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.plugins_manager import AirflowPlugin
from airflow.sdk.definitions.asset import BaseAsset
from airflow.serialization.encoders import ensure_serialized_asset
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable

__all__ = ["DailyOrAssets", "TerraFlowPlugin"]


class DailyOrAssets(AssetOrTimeSchedule):
    """Every day, and when an asset is updated; a backfill makes one run of each month.

    Parameters
    ----------
    assets : asset
        Whose updates start a run.
    hour : int
        Of the day, in UTC.
    """

    def __init__(self, assets: Any, hour: int = 5) -> None:
        condition = ensure_serialized_asset(assets) if isinstance(assets, BaseAsset) else assets
        daily = CronTriggerTimetable(f"0 {hour} * * *", timezone="UTC")
        super().__init__(timetable=daily, assets=condition)
        self.hour = hour

    def serialize(self) -> dict[str, Any]:
        """Tell Airflow how to make this schedule again."""
        return {"asset_condition": super().serialize()["asset_condition"], "hour": self.hour}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> DailyOrAssets:
        """Make the schedule that `serialize` told of."""
        from airflow.serialization.decoders import decode_asset_like

        return cls(decode_asset_like(data["asset_condition"]), data["hour"])

    @property
    def summary(self) -> str:
        """What Airflow's pages show."""
        return f"Asset or daily at {self.hour:02}:00"

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Give the next day, or, of a backfill, the next month as data interval.

        A backfill is what asks for runs of dates that have passed (`catchup`): a DAG with this
        schedule has catchup = False.
        """
        if not restriction.catchup:
            return super().next_dagrun_info(
                last_automated_data_interval=last_automated_data_interval, restriction=restriction
            )
        first = last_automated_data_interval.end if last_automated_data_interval else None
        month = (first or restriction.earliest or pendulum.now("UTC")).start_of("month")
        if first is None and restriction.earliest and month < restriction.earliest:
            month = month.add(months=1)
        if restriction.latest and month > restriction.latest:
            return None
        return DagRunInfo.interval(month, month.add(months=1))


class TerraFlowPlugin(AirflowPlugin):
    """What Airflow is to know of TerraFlow."""

    name = "terraflow"
    timetables = [DailyOrAssets]
