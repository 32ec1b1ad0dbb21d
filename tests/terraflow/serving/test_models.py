"""Models as the server gets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest

from terraflow.errors import ConfigError, StorageError
from terraflow.serving.models import (
    FoundModel,
    export_model,
    fetch,
    find_model,
    model_digest,
    remove_copies,
)
from terraflow.settings import Settings
from terraflow.stack.model_server import Way


def write_model(folder: Path, **entries: Any) -> str:
    folder.mkdir()
    flavors = {"python_function": {"loader_module": "none"}}
    (folder / "MLmodel").write_text(json.dumps({"flavors": flavors} | entries))
    return str(folder)


def test_find_model_makes_a_row_of_the_signatures_types(settings: Settings, tmp_path: Path) -> None:
    columns = [{"name": "ndvi", "type": "double"}, {"name": "name", "type": "string"}]
    signature = {"inputs": json.dumps(columns), "outputs": None, "params": None}
    uri = write_model(tmp_path / "m", signature=signature, metadata={"note": "For summer."})
    split = {"columns": ["ndvi", "name"], "data": [[0.5, "text"]]}
    found = find_model(settings, "", uri)
    assert found == FoundModel(uri, uri, "", "", {"dataframe_split": split}, "For summer.")


def test_find_model_without_a_signature_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no signature with column names; log it with one"):
        find_model(settings, "", write_model(tmp_path / "m"))


def test_find_model_that_is_not_there_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone can't be read: .*; name a model that") as caught:
        find_model(settings, "", str(tmp_path / "gone"))
    assert "\n" not in str(caught.value)
    assert settings.mlflow_url in str(caught.value)


def of(uri: str | Path) -> FoundModel:
    return FoundModel(str(uri), str(uri), "", "", {}, "")


def test_fetch_copies_the_model_beside_the_one_before(
    settings: Settings, model_folder: Path
) -> None:
    first = Path(fetch(settings, of(model_folder), Way()).folder)
    assert (first / "MLmodel").read_bytes() == (model_folder / "MLmodel").read_bytes()
    second = Path(fetch(settings, of(model_folder), Way()).folder)
    assert second.is_relative_to(settings.var)
    assert first.exists()  # a server may run with it
    remove_copies(settings, [str(second)])
    assert list((settings.var / "served").iterdir()) == [second]


def test_fetch_model_of_the_registry_by_its_alias(
    tracked_settings: Settings, model_folder: Path
) -> None:
    mlflow.set_tracking_uri(tracked_settings.mlflow_url)
    mlflow.set_experiment("fetch")
    loaded = mlflow.sklearn.load_model(str(model_folder))
    signature = mlflow.models.get_model_info(str(model_folder)).signature
    for _ in range(2):
        mlflow.sklearn.log_model(
            loaded, name="model", signature=signature, registered_model_name="fetched"
        )
    mlflow.MlflowClient().set_registered_model_alias("fetched", "champion", "1")
    found = find_model(tracked_settings, "", "models:/fetched@champion")
    assert (found.uri, found.name, found.version) == ("models:/fetched/1", "fetched", "1")
    assert found.shown == "models:/fetched@champion"
    served = fetch(tracked_settings, found, Way())
    assert (Path(served.folder) / "MLmodel").exists()
    assert (served.name, served.version, served.environment) == ("fetched", "1", "")
    with pytest.raises(ConfigError, match="Model models:/fetched@nobody can't be read: "):
        find_model(tracked_settings, "", "models:/fetched@nobody")


def test_fetch_what_can_not_be_copied_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone can't be copied to .*served: "):
        fetch(settings, of(tmp_path / "gone"), Way())


def test_fetch_model_that_runs_code_is_refused_unless_trusted(
    settings: Settings, tmp_path: Path
) -> None:
    model = Path(write_model(tmp_path / "m"))
    with pytest.raises(ConfigError, match="runs code when it is loaded: the loader none; look at"):
        fetch(settings, of(model), Way())
    assert Path(fetch(settings, of(model), Way(trust=True)).folder).exists()


def test_export_model_writes_a_folder_that_is_served(
    settings: Settings, model_folder: Path, tmp_path: Path
) -> None:
    made = export_model(settings, "", str(model_folder), tmp_path / "a" / "exported")
    assert (made / "MLmodel").read_bytes() == (model_folder / "MLmodel").read_bytes()
    assert [path.name for path in made.parent.iterdir()] == ["exported"]
    assert find_model(settings, "", str(made)).example
    with pytest.raises(ConfigError, match="exported is there already; name a new folder"):
        export_model(settings, "", str(model_folder), made)


def test_export_model_that_is_not_there_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone can't be read"):
        export_model(settings, "", str(tmp_path / "gone"), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_model_digest_tells_models_apart(model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model_folder, copy)
    assert model_digest(copy) == model_digest(model_folder)
    (copy / "MLmodel").write_text("other")
    assert model_digest(copy) != model_digest(model_folder)


def test_fetch_makes_no_environment_of_what_a_stranger_names(
    settings: Settings, model_folder: Path, tmp_path: Path
) -> None:
    """Its wheel, or a package of its lock, would run at the start of the server."""
    model = tmp_path / "model"
    shutil.copytree(model_folder, model)
    with pytest.raises(ConfigError, match=r"environment of the packages that it names.* --trust"):
        fetch(settings, of(model), Way(isolated=True))
    (model / "requirements.txt").write_text("numpy==1.0\n")
    (model / "pylock.toml").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=r"environment of the packages that it names.* --here"):
        fetch(settings, of(model), Way())
    assert not (settings.var / "envs").exists()
    assert Path(fetch(settings, of(model), Way(isolated=False)).folder).exists()
