"""The reference project as a user meets it: a task a step, on the simulated area."""

from __future__ import annotations

import json
import re
from pathlib import Path

import mlflow
import pytest
import rasterio

from harness import ROOT, Stack, run_id


@pytest.fixture(scope="module")
def trained(stack: Stack) -> str:
    """What `train` printed."""
    return stack.ok("train")


@pytest.fixture(scope="module")
def mapped(stack: Stack, trained: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map in a local file."""
    path = tmp_path_factory.mktemp("map") / "map.tif"
    said = stack.ok("map", "--model", model_of(trained), "--output", str(path))
    assert f"Map: {path}" in said
    assert "simulated data" in said
    return path


def model_of(trained: str) -> str:
    found = re.search(r"model (models:/land-cover/\d+)", trained)
    assert found, trained
    return found[1]


def test_ingest_second_time_copies_nothing(stack: Stack, trained: str) -> None:
    said = stack.ok("ingest")
    assert "6 simulated items, 0 images copied now" in said
    assert re.search(r"Collection: s3://eo-data/land-cover/collection-\w+\.json", said)


def test_preprocess_prints_the_data_report(stack: Stack, trained: str) -> None:
    said = stack.ok("preprocess")
    assert re.search(r"^forest +\d+$", said, re.MULTILINE)
    assert re.search(r"^04 +\d+%$", said, re.MULTILINE)


def test_train_prints_scores_with_intervals_and_the_decision(stack: Stack, trained: str) -> None:
    assert re.search(r"^macro F1 +0\.\d{3} \(0\.\d{3} to \d\.\d{3}\)$", trained, re.MULTILINE)
    assert "Over random folds, which is optimistic" in trained
    assert re.search(r"no champion before|comparing version|Can't compare", trained)


def test_map_and_report_in_the_store(stack: Stack, trained: str) -> None:
    said = stack.ok("map", "--model", model_of(trained))
    uri = re.search(r"^Map: (s3://eo-data/\S+/map\.tif)$", said, re.MULTILINE)
    assert uri, said
    told = stack.ok("report", "--map", uri[1])
    assert re.search(r"\| forest \| [\d,.]+ \| [01]\.\d\d \| [01]\.\d\d \|", told)
    assert "A probability sample of this map tells both" in told
    assert f"quicklook: {uri[1].removesuffix('.tif')}_quicklook.png" in told
    assert f"model             {model_of(trained)}" in stack.ok("origin", uri[1])


@pytest.mark.slow
def test_report_without_a_map_takes_the_champions(stack: Stack, trained: str) -> None:
    stack.ok("promote", "--run-id", run_id(trained))
    stack.ok("map")
    assert model_of(trained) in stack.ok("report")


def test_origin_and_reproduce_a_map(stack: Stack, trained: str, mapped: Path) -> None:
    said = stack.ok("origin", str(mapped))
    assert said == stack.ok("explain", str(mapped))
    for line in (f"run +{run_id(trained)}", "seed +42", "macro F1 +0\\.\\d+", "data digest +\\w+"):
        assert re.search(f"^{line}$", said, re.MULTILINE), line
    with rasterio.open(mapped) as file:
        pixels = file.width * file.height
    assert 250**2 < pixels < 270**2
    assert f"all {pixels} pixels come out equal" in stack.ok("reproduce", str(mapped))


@pytest.mark.slow
def test_train_twice_gives_the_same_map_byte_for_byte(
    stack: Stack, trained: str, mapped: Path, tmp_path: Path
) -> None:
    again = stack.ok("train")
    first, second = (mlflow_run(stack, run_id(said)) for said in (trained, again))
    assert first.data.metrics == second.data.metrics
    stack.ok("map", "--model", model_of(again), "--output", str(tmp_path / "again.tif"))
    with rasterio.open(mapped) as one, rasterio.open(tmp_path / "again.tif") as two:
        assert one.read().tobytes() == two.read().tobytes()
    stack.ok("map", "--model", model_of(trained), "--output", str(tmp_path / "same.tif"))
    assert (tmp_path / "same.tif").read_bytes() == mapped.read_bytes()


def mlflow_run(stack: Stack, identifier: str) -> mlflow.entities.Run:
    stack.track()
    return mlflow.get_run(identifier)


@pytest.mark.exhaustive
def test_train_tune_logs_nested_runs(stack: Stack, trained: str) -> None:
    run = mlflow_run(stack, run_id(stack.ok("train", "--tune", "2")))
    assert run.data.params["tuned_trials"] == "2"
    query = f"tags.mlflow.parentRunId = '{run.info.run_id}'"
    children = mlflow.search_runs([run.info.experiment_id], query, output_format="list")
    assert len(children) == 2
    assert all("macro_f1" in child.data.metrics for child in children)


def test_monitor_of_the_training_images_is_stable(stack: Stack, trained: str) -> None:
    said = stack.ok("monitor", "--model", model_of(trained))
    assert "Greatest PSI 0.000" in said  # the same pixels are drawn
    assert "Stable." in said


@pytest.mark.slow
def test_promote_by_hand_says_so(stack: Stack, trained: str) -> None:
    said = stack.ok("train")
    assert "by hand" in stack.ok("promote", "--run-id", run_id(said))
    stack.track()
    version = mlflow.MlflowClient().get_model_version_by_alias("land-cover", "champion")
    assert version.run_id == run_id(said)
    assert version.tags["promotion"] == "promoted by hand"


@pytest.mark.exhaustive
def test_files_without_a_catalogue_are_mapped(stack: Stack, trained: str, tmp_path: Path) -> None:
    """From plain GeoTIFFs, a file a band and date, to a map."""
    scenes, labels = export_scenes(stack, tmp_path)
    text = (stack.config / "land_cover.toml").read_text()
    config = stack.config / "files.toml"
    pattern = r"(?P<date>\d{8})_(?P<band>\w+)"
    config.write_text(
        text.replace('name = "land-cover"', 'name = "from-files"')
        .replace('source = "simulated"', f'source = "{labels}"')
        .replace('catalogue = "simulated"', f"name_pattern = '{pattern}'")
        .replace(
            "[data.bands]",
            "[data.scaling]\n"
            + "".join(
                f"{b} = {{ scale = 0.0001, offset = -0.1, nodata = 0 }}\n"
                for b in ("blue", "green", "red", "nir", "swir16")
            )
            + "[data.bands]",
        )
    )
    said = stack.ok("ingest", "--config", str(config), "--files", f"{scenes}/*.tif")
    assert "6 items, 36 images copied now" in said
    items = re.search(r"Collection: (\S+)", said)
    assert items
    trained = stack.ok("train", "--config", str(config), "--items", items[1])
    assert "imulated" not in trained
    output = str(tmp_path / "map.tif")
    stack.ok("map", "--config", str(config), "--items", items[1], "--output", output)
    assert json.loads((tmp_path / "map.json").read_text())["type"] == "Feature"


def export_scenes(stack: Stack, folder: Path) -> tuple[Path, Path]:
    """Copy the simulated images out of MinIO as plain files, DATE_BAND.tif."""
    import boto3

    user = stack.credentials()
    store = boto3.client(
        "s3",
        endpoint_url=stack.url("minio"),
        aws_access_key_id=user["minio user"],
        aws_secret_access_key=user["minio password"],
    )
    listed = store.list_objects_v2(Bucket="eo-data", Prefix="simulated-")["Contents"]
    (folder / "scenes").mkdir()
    labels = folder / "labels.gpkg"
    for key in (entry["Key"] for entry in listed):
        if found := re.search(r"SIMULATED_(\d{8})/(\w+)\.tif$", key):
            store.download_file("eo-data", key, folder / "scenes" / f"{found[1]}_{found[2]}.tif")
        elif key.endswith("labels.gpkg"):
            store.download_file("eo-data", key, labels)
    return folder / "scenes", labels


@pytest.mark.exhaustive
def test_commands_of_the_readme_work_as_they_stand(stack: Stack) -> None:
    """Those for make, in their order; they are run by the tasks that make runs."""
    named = re.findall(r"(?:^|`)make (\w+)( ARGS=\S+)?", (ROOT / "README.md").read_text(), re.M)
    names = [name for name, words in named if name not in ("up", "serve") and not words]
    assert {"train", "map", "report", "monitor", "ingest", "scenes", "status"} <= set(names)
    for name in dict.fromkeys(names):
        assert stack.ok(name)
