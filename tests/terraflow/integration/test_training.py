"""The job on the running stack: real data, a served model, and what can go wrong."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import httpx
import mlflow
import pytest
from mlflow.entities import Run

from harness import Stack, run_id

SLOVENIA = """
name = "slovenia"
[data]
catalogue = "{folder}/catalog.json"
start = 2015-07-01
end = 2017-12-31
[data.bands]
ndvi = "ndvi"
[cloud_mask]
asset = "cloud"
clear = [0]
[labels]
source = "{folder}/reference/land_use.gpkg"
class_field = "class_id"
classes = {{ 2 = "forest", 3 = "grassland", 4 = "shrubland", 8 = "artificial_surface" }}
[features]
composites = "month"
neighbourhood = [5]
[model]
name = "lightgbm"
[model.parameters]
n_estimators = 200
learning_rate = 0.05
num_leaves = 15
colsample_bytree = 0.2
class_weight = "balanced"
[validation]
block_size_px = 17
whole_polygons = false
"""
CLASSES = 'classes = { 2 = "forest", 3 = "grassland", 4 = "shrubland", 8 = "artificial_surface" }'
DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "slovenia"


@pytest.fixture(scope="module")
def config(stack: Stack) -> Path:
    if not DATA.exists():
        pytest.skip("../shared/data/slovenia is not there; it is not part of the repository")
    path = stack.config / "slovenia.toml"
    path.write_text(SLOVENIA.format(folder=DATA))
    return path


@pytest.fixture(scope="module")
def trained(stack: Stack, config: Path) -> str:
    """What `train` printed for the real data."""
    return stack.ok("train", "--config", str(config))


@pytest.fixture(scope="module")
def run(stack: Stack, trained: str) -> Run:
    stack.track()
    return mlflow.get_run(run_id(trained))


@pytest.fixture(scope="module")
def server(stack: Stack, trained: str) -> Iterator[str]:
    """What `serve` printed; the model server runs."""
    yield stack.ok("serve", "--run-id", run_id(trained), "--detach")
    assert stack.services()["model-server"]["pid"]
    stack.stop_model_server()


@pytest.fixture(scope="module")
def url(stack: Stack, server: str) -> str:
    return str(stack.services()["model-server"]["url"])


@pytest.fixture(scope="module")
def payload(server: str) -> dict[str, Any]:
    """What the printed curl line sends."""
    found = re.search(r"-d '(.*)'$", server, re.MULTILINE)
    assert found
    return dict(json.loads(found[1])["dataframe_split"])


def test_train_real_data_reaches_the_accuracy_over_blocks(run: Run, trained: str) -> None:
    assert run.info.status == "FINISHED"
    assert run.data.metrics["overall_accuracy"] >= 0.92
    assert run.data.metrics["macro_f1"] >= 0.70
    shown = " ".join(trained.split())
    assert f"overall accuracy {run.data.metrics['overall_accuracy']:.3f} (" in shown
    assert "imulated" not in trained


def test_train_logs_all_that_a_reader_needs(run: Run, stack: Stack) -> None:
    names = {entry.path for entry in mlflow.artifacts.list_artifacts(run_id=run.info.run_id)}
    assert {
        "class_curves.png",
        "config.json",
        "confusion.png",
        "data_report.json",
        "importance.png",
        "model_card.md",
        "predictions.parquet",
    } <= names
    assert {"code_commit", "lock_digest", "data_digest", "seed"} <= set(run.data.tags)
    assert {"f1_forest", "users_accuracy_forest", "macro_f1"} <= set(run.data.metrics)
    assert run.data.params["block_size_px"] == "17"
    assert run.inputs.dataset_inputs[0].dataset.name == "slovenia samples"
    picture = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="confusion.png"
    )
    assert Path(picture).read_bytes()[:4] == b"\x89PNG"


def test_train_registers_the_challenger_with_signature_and_example(run: Run) -> None:
    version = mlflow.MlflowClient().get_model_version_by_alias("slovenia", "challenger")
    assert version.run_id == run.info.run_id
    info = mlflow.models.get_model_info("models:/slovenia@challenger")
    assert info.signature.inputs.input_names()[0] == "ndvi_2015-07"
    assert info.saved_input_example_info


def test_train_artifacts_lie_in_minio(stack: Stack, run: Run) -> None:
    data = stack.var / "minio" / "data" / "mlflow"
    assert list(data.glob(f"*/{run.info.run_id}/artifacts/confusion.png"))
    assert not stack.artifacts.exists()


@pytest.mark.exhaustive
def test_train_twice_gives_the_same_scores(stack: Stack, config: Path, run: Run) -> None:
    again = mlflow.get_run(run_id(stack.ok("train", "--config", str(config))))
    assert again.data.metrics == run.data.metrics
    assert again.data.tags["data_digest"] == run.data.tags["data_digest"]


def test_serve_printed_curl_line_works_as_it_stands(server: str) -> None:
    line = next(line for line in server.splitlines() if line.startswith("curl "))
    answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    [name] = json.loads(answer.stdout)["predictions"]
    assert name in {"forest", "grassland", "shrubland", "artificial_surface"}


def test_serve_reads_a_model_from_s3_before_refusing_a_second(stack: Stack, run: Run) -> None:
    model = mlflow.search_logged_models(
        experiment_ids=[run.info.experiment_id], output_format="list"
    )[0]
    uri = model.artifact_location.replace("mlflow-artifacts:/", "s3://mlflow/")
    said = stack.fails("serve", "--model", uri)  # the port's server is there already
    assert "A model server already runs here" in said
    assert "can't be read" in stack.fails("serve", "--model", uri + "x")


def test_serve_twice_is_refused(stack: Stack, server: str, trained: str) -> None:
    said = stack.fails("serve", "--run-id", run_id(trained))
    assert "A model server already runs here" in said


def split(columns: list[str], *rows: list[Any]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": list(rows)}}


def refusal(url: str, body: dict[str, Any] | str, kind: str = "application/json") -> str:
    content = body if isinstance(body, str) else json.dumps(body)
    answer = httpx.post(f"{url}/invocations", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text
    return str(answer.json()["message"])


def test_invocations_missing_column_is_named(url: str, payload: dict[str, Any]) -> None:
    said = refusal(url, split(payload["columns"][1:], payload["data"][0][1:]))
    assert "Missing column ndvi_2015-07" in said


def test_invocations_extra_column_is_named(url: str, payload: dict[str, Any]) -> None:
    said = refusal(url, split([*payload["columns"], "evi"], [*payload["data"][0], 1]))
    assert "Unknown column evi" in said


def test_invocations_text_for_a_number_names_column_and_row(
    url: str, payload: dict[str, Any]
) -> None:
    wrong = ["cloudy", *payload["data"][0][1:]]
    said = refusal(url, split(payload["columns"], payload["data"][0], wrong))
    assert "Column ndvi_2015-07 has 'cloudy' in row 1" in said


def test_invocations_text_in_csv_names_column(url: str, payload: dict[str, Any]) -> None:
    row = ["cloudy", *map(str, payload["data"][0][1:])]
    said = refusal(url, ",".join(payload["columns"]) + "\n" + ",".join(row), "text/csv")
    assert "Column ndvi_2015-07 has 'cloudy' in row 0" in said


@pytest.mark.parametrize("body", [{"dataframe_records": []}, {"inputs": []}, {"instances": []}])
def test_invocations_empty_list_names_the_columns(url: str, body: dict[str, Any]) -> None:
    said = refusal(url, body)
    assert "There is no row" in said
    assert "ndvi_2015-07" in said


def test_invocations_null_is_named(url: str, payload: dict[str, Any]) -> None:
    said = refusal(url, split(payload["columns"], [None, *payload["data"][0][1:]]))
    assert "Column ndvi_2015-07 has no value in row 0" in said


@pytest.mark.parametrize("body", ["[]", "{", '{"rows": []}', "17"])
def test_invocations_other_json_is_a_sentence(url: str, body: str) -> None:
    assert "Traceback" not in refusal(url, body)


@pytest.mark.parametrize("form", ["records", "list", "csv"])
def test_predict_prints_class_names(
    form: str, stack: Stack, payload: dict[str, Any], tmp_path: Path
) -> None:
    stack.services()
    records = [dict(zip(payload["columns"], payload["data"][0], strict=True))] * 2
    if form == "csv":
        path = tmp_path / "rows.csv"
        rows = [",".join(map(str, payload["data"][0]))] * 2
        path.write_text("\n".join([",".join(payload["columns"]), *rows]))
    else:
        path = tmp_path / "rows.json"
        path.write_text(json.dumps(records if form == "list" else {"dataframe_records": records}))
    lines = stack.ok("predict", "--input", str(path)).splitlines()
    assert len(lines) == 2
    assert set(lines) <= {"forest", "grassland", "shrubland", "artificial_surface"}


def test_predict_with_a_wrong_file_names_the_column(stack: Stack, url: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    assert "Missing column ndvi_2015-07" in stack.fails(
        "predict", "--input", str(tmp_path / "rows.csv")
    )


def test_serve_unknown_run_lists_the_latest_with_dates(
    stack: Stack, run: Run, tmp_path: Path
) -> None:
    said = stack.fails("serve", "--run-id", "nosuchrun")
    assert "There is no run 'nosuchrun'" in said
    assert re.search(rf"{run.info.run_id} \(\d{{4}}-\d\d-\d\d \d\d:\d\d UTC\)", said)


def test_serve_unknown_model_is_a_sentence(stack: Stack, run: Run) -> None:
    said = stack.fails("serve", "--model", "models:/nothing@champion")
    assert "Model models:/nothing@champion can't be read" in said


def test_serve_without_a_model_tells_how_to_name_one(stack: Stack) -> None:
    assert "--run-id ID, or by --model" in stack.fails("serve")


def test_train_labels_outside_the_images_gives_both_extents(
    stack: Stack, config: Path, run: Run
) -> None:
    labels = geopandas.read_file(DATA / "reference" / "land_use.gpkg")
    labels.geometry = labels.translate(xoff=50_000)
    labels.to_file(stack.config / "shifted.gpkg")
    wrong = stack.config / "wrong.toml"
    wrong.write_text(config.read_text().replace(f"{DATA}/reference/land_use.gpkg", "shifted.gpkg"))
    before = {r.info.run_id for r in all_runs()}
    said = stack.fails("train", "--config", str(wrong)).splitlines()[-1]
    assert "lies in the images: labels span 514972" in said
    assert "images 465181, 5079245, 466181, 5080255" in said
    assert {r.info.run_id for r in all_runs()} == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("catalog.json", "nowhere.json"), "nowhere.json can't be read ("),
        (
            ("2015-07-01", "2030-07-01", "2017-12-31", "2030-12-31"),
            "its 68 items lie between 2015-07-11 and 2017-12-22",
        ),
        (
            (
                CLASSES,
                'classes = { 2 = "forest" }',
            ),
            "1 class(es) (forest); at least 2 classes are needed",
        ),
        (('asset = "cloud"', 'asset = "clouds"'), "68 of 68 items lack assets"),
        (("clear = [0]", "clear = [77]"), "None of the 101 x 100 pixels is clear"),
    ],
)
def test_train_bad_input_is_one_sentence_and_leaves_no_run(
    change: tuple[str, ...], expected: str, stack: Stack, config: Path, run: Run
) -> None:
    text = config.read_text()
    for old, new in zip(change[::2], change[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    wrong = stack.config / "wrong.toml"
    wrong.write_text(text)
    before = {r.info.run_id for r in all_runs()}
    said = stack.fails("train", "--config", str(wrong))
    assert expected in said.splitlines()[-1]
    assert {r.info.run_id for r in all_runs()} == before


def all_runs() -> list[Run]:
    return list(mlflow.search_runs(search_all_experiments=True, output_format="list"))


@pytest.mark.slow
def test_train_through_airflow_gives_the_same_result(stack: Stack) -> None:
    said = stack.ok("train", "--airflow", timeout=500)
    for task in ("ingest", "preprocess", "train", "gate", "promote"):
        assert f"  {task}: success after" in said
    assert "Simulated data" in said
    stack.track()
    run = mlflow.get_run(run_id(said))
    assert run.data.tags["simulated"] == "true"
    assert "simulated" in run.data.tags["mlflow.note.content"]
    assert run.inputs.dataset_inputs[0].dataset.name == "land-cover samples (simulated)"
    direct = mlflow.get_run(run_id(stack.ok("train")))
    assert direct.data.metrics == run.data.metrics


@pytest.mark.slow
def test_train_through_airflow_that_fails_exits_with_its_error(stack: Stack) -> None:
    wrong = stack.config / "wrong.toml"
    text = (stack.config / "land_cover.toml").read_text()
    wrong.write_text(text.replace("2024-04-01", "2030-04-01").replace("2024-09-30", "2030-09-30"))
    said = stack.fails("train", "--airflow", "--config", str(wrong))
    assert "Task ingest failed" in said
    assert "No item of " in said
