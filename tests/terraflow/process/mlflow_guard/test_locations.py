from __future__ import annotations

from pathlib import Path

import pytest

from terraflow.process.mlflow_guard.locations import is_inside

BUCKET = "s3://mlflow"


@pytest.mark.parametrize(
    "location",
    ["mlflow-artifacts:/1/2/artifacts", "runs:/0123/model", "models:/land-cover/1", "models:/m-01"],
)
@pytest.mark.parametrize("destination", [BUCKET, "/srv/artifacts"])
def test_what_mlflow_names_itself_is_inside(location: str, destination: str) -> None:
    assert is_inside(location, destination)


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc",
        "file:/etc",
        "FILE:///etc",
        "file://localhost/etc",
        "/etc",
        "etc",
        "",
        "~/x",
        "mlflow-artifacts://127.0.0.1:9999/1",
        "mlflow-artifacts:/../x",
        "mlflow-artifacts%3A/x",
        "%6dlflow-artifacts:/x",
        "mlflow-artifacts:..",
        "mlflow-artifacts:/1/%2e%2e/x",
        "mlflow-artifacts:/1/%252e%252e/x",
        "mlflow-artifacts:/1/..%2fx",
        "mlflow-artifacts:/1\\..\\x",
        "mlflow-artifacts:/1/x\0y",
        "s3://eo-data/x",
        "s3://mlflow-other/x",
        "s3://mlflow/../eo-data",
        "s3:/mlflow/x",
        "http://127.0.0.1/x",
        "ftp://127.0.0.1/x",
        "dbfs:/x",
        "gs://mlflow/x",
    ],
)
def test_what_leads_elsewhere_is_outside_of_a_bucket(location: str) -> None:
    assert not is_inside(location, BUCKET)


def test_the_bucket_itself_is_inside() -> None:
    assert is_inside(BUCKET, BUCKET)
    assert is_inside("s3://mlflow/runs/1", f"{BUCKET}/runs")
    assert not is_inside("s3://mlflow/runs2", f"{BUCKET}/runs")


def test_paths_are_compared_where_their_links_lead(tmp_path: Path) -> None:
    store, secret = tmp_path / "store", tmp_path / "secret"
    store.mkdir()
    secret.mkdir()
    (store / "link").symlink_to(secret)
    (store / "a%20b").symlink_to(secret)
    (tmp_path / "store2").symlink_to(store)
    assert is_inside(str(store / "1" / "2"), str(store))
    assert is_inside(f"file://{store}/1", str(store))
    assert is_inside(str(tmp_path / "store2" / "1"), str(store))
    assert is_inside(str(store / "1"), f"file://{store}")
    for name in ("link", "link/x", "../secret", "1/../../secret"):
        assert not is_inside(str(store / name), str(store))
        assert not is_inside(f"file://{store}/{name}", str(store))
    assert not is_inside(str(store / "a%2520b"), str(store))
    assert not is_inside(f"file://{store}/a%2520b", str(store))
    assert not is_inside(str(secret), str(store))
    assert not is_inside(str(tmp_path / "store-other"), str(store))
    assert not is_inside(f"file://elsewhere{store}/1", str(store))
