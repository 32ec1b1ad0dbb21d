"""What tests know of the MLflow server that they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MlflowServer:
    """A real MLflow server, as the stack starts it.

    Attributes
    ----------
    folder : Path
        With its database, its artifacts, its token_file and its log.
    """

    port: int
    folder: Path
    token: str = "a-token-for-tests"

    @property
    def token_file(self) -> Path:
        return self.folder / "token_file"
