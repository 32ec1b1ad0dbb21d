"""The model server, which runs beside the stack: what it serves, and where."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from terraflow import probes
from terraflow.files import write_private
from terraflow.settings import Settings
from terraflow.state import manager_pid

__all__ = ["MODEL_SERVER", "ServedModel", "Way", "model_server_url", "recorded_model_server"]

#: Its supervisor's name.
MODEL_SERVER = "model-server"


@dataclass(frozen=True)
class Way:
    """How a model is served, as the user asked for it.

    Attributes
    ----------
    url : str
        Where it is asked.
    trust : bool
        It may run code when it is loaded.
    isolated : bool or None
        In an environment of its own; None where its own differs from the stack's.
    maps : bool
        It makes maps, too.
    follows : str
        Alias whose moves are followed, as name@alias, or "".
    """

    url: str = ""
    trust: bool = False
    isolated: bool | None = None
    maps: bool = False
    follows: str = ""


@dataclass(frozen=True)
class ServedModel:
    """A copied model that is served, as var/run/served.json holds it.

    Attributes
    ----------
    shown : str
        As the user named it.
    uri : str
        That names this very version.
    name, version : str
        In the registry, or "".
    folder : str
        Of the copy.
    python : str
        Interpreter of the environment in which it is served.
    environment : str
        Id of that environment, or "" for the stack's own.
    way : Way
    refused : dict
        Version that the alias pointed at to why it was not taken.
    """

    shown: str
    uri: str
    name: str
    version: str
    folder: str
    python: str = sys.executable
    environment: str = ""
    way: Way = Way()
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name for people."""
        return f"{self.name} version {self.version}" if self.version else self.shown

    def save(self, settings: Settings) -> None:
        """Write down what is served.

        Raises
        ------
        StorageError
            The file can't be written.
        """
        write_private(_file(settings), json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, settings: Settings) -> ServedModel | None:
        """Read what is served, or was last; None where that is not known."""
        try:
            return cls.from_dict(json.loads(_file(settings).read_text()))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ServedModel:
        """Make it of what `dataclasses.asdict` gave."""
        return cls(**{**values, "way": Way(**values["way"])})

    def shares_process_with(self, other: ServedModel) -> bool:
        """Tell whether one process can load both.

        A folder of code that was logged with a model holds modules, of which a process has one of
        each name.
        """
        brings_code = any((Path(model.folder) / "code").is_dir() for model in (self, other))
        return self.python == other.python and not brings_code

    @property
    def news(self) -> str:
        """What of the alias is not served, and why, or ""."""
        refused = [f"version {version} is refused: {why}" for version, why in self.refused.items()]
        return "; ".join(refused)


def recorded_model_server(settings: Settings) -> str:
    """Address of the model server that runs here, or "" where none does."""
    running = manager_pid(settings.run_dir, MODEL_SERVER)
    served = ServedModel.read(settings)
    return served.way.url if running and served else ""


def model_server_url(settings: Settings) -> str:
    """Address of the running model server, or "" where none answers."""
    url = recorded_model_server(settings)
    return url if url and probes.answers(f"{url}/health") else ""


def _file(settings: Settings) -> Path:
    return settings.run_dir / "served.json"
