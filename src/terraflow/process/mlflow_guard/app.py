"""MLflow's server behind a login; uvicorn runs `terraflow.process.mlflow_guard.app:app`."""

from __future__ import annotations

from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.server.fastapi_app import app as mlflow_app

from terraflow import config
from terraflow.process.mlflow_guard import locations
from terraflow.process.mlflow_guard.login import Login

__all__ = ["app"]

_VARIABLES = config.host_environment()
locations.restrict(_VARIABLES[ARTIFACTS_DESTINATION_ENV_VAR])
app = Login(mlflow_app, _VARIABLES["MLFLOW_TRACKING_TOKEN"])
