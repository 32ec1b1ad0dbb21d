"""TerraFlow: a local-first MLOps stack, and a library for Earth Observation projects."""

from __future__ import annotations

__all__ = ["__version__"]

__version__: str


def __getattr__(name: str) -> str:
    """Read the version of the installed distribution when it is asked for."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - few need it

    try:
        return version("terraflow-eo")
    except PackageNotFoundError:  # in a model's own environment
        return version("terraflow-serving")
