"""The sections of a project file that say what happens once there is a model."""

from __future__ import annotations

from pydantic import Field

from terraflow.eo.config.section import Section

__all__ = ["Monitor", "Promotion", "Watch"]


class Monitor(Section):
    """When new scenes have drifted from the training data.

    Attributes
    ----------
    max_psi : float
        Greatest population stability index of any feature; 0.25 is the customary mark of a shift.
    max_outside_range : float
        Greatest share (0-1) of pixels with any feature outside the training range.
    """

    max_psi: float = Field(0.25, gt=0)
    max_outside_range: float = Field(0.2, ge=0, le=1)


class Promotion(Section):
    """Who lets a better model take over.

    Attributes
    ----------
    approve : bool
        A person is asked before a model that the gate lets through becomes the champion.
    """

    approve: bool = False


class Watch(Section):
    """How often Airflow looks for new items.

    Attributes
    ----------
    store_s : float
        Seconds between two looks into the store, for what `ingest` wrote.
    catalogue_s : float
        Seconds between two looks into [data] catalogue or files, for what to ingest; 0 never looks.
    """

    store_s: float = Field(10, ge=1)
    catalogue_s: float = Field(600, ge=0)
