from __future__ import annotations

import pytest

from terraflow.errors import ConfigError
from terraflow.stack.lifecycle.up import up
from terraflow.stack.setup import check_assignments, set_up


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
