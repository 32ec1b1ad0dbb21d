from __future__ import annotations

import json

import pytest

from services import supervised
from terraflow.credentials import read_secrets
from terraflow.errors import ConfigError
from terraflow.files import make_dir, write_private
from terraflow.settings import Settings
from terraflow.stack.lifecycle.up import up
from terraflow.stack.setup import check_assignments, prepare, set_up


@pytest.mark.parametrize("start", [set_up, up])
def test_serving_settings_are_refused_where_they_have_no_effect(
    start: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    with pytest.raises(ConfigError, match=r"--set serving\.port=0 would have no effect") as caught:
        start(["mlflow.port=0", "serving.port=0"])
    assert "TERRAFLOW_SERVING_PORT" in str(caught.value)


def test_settings_of_the_stack_are_taken() -> None:
    check_assignments(["mlflow.port=0", "store=local"])


def test_prepare_renews_keys_of_minio_that_can_be_guessed_unless_it_runs(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    old = read_secrets(settings) | {"minio_user": "terraflow-0a1b2c3d"}
    write_private(settings.var / "secrets.json", json.dumps(old))
    with supervised(make_dir(settings.run_dir), "minio"):
        prepare(settings)
    assert "new keys" not in capsys.readouterr().out
    assert read_secrets(settings) == old
    prepare(settings)
    said = capsys.readouterr().out
    new = read_secrets(settings)
    assert "MinIO has new keys" in said
    assert not [value for value in (*old.values(), *new.values()) if value in said]
    for name in ("config.env", "credentials"):
        text = (settings.var / "minio" / name).read_text()
        assert new["minio_user"] in text
        assert "terraflow-0a1b2c3d" not in text
    prepare(settings)
    assert "new keys" not in capsys.readouterr().out
    assert read_secrets(settings) == new
