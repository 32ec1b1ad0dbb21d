from __future__ import annotations

import mlflow

from terraflow.serving.keeper.alias import Alias
from terraflow.settings import Settings
from terraflow.tracking import runs


def test_alias_is_looked_up_with_the_token(tracked_settings: Settings) -> None:
    runs.connect(tracked_settings)
    client = mlflow.MlflowClient()
    client.create_registered_model("looked-up")
    with runs.start_run(tracked_settings, "looked-up", name="run", tags={}) as run:
        mlflow.log_text("x", "model/MLmodel")
    client.create_model_version("looked-up", f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias("looked-up", "champion", "1")
    assert Alias(tracked_settings, "looked-up@champion").look() == "1"
