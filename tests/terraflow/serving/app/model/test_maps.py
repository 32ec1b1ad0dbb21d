"""Maps as answers of a real server, against those of `make_map`."""

from __future__ import annotations

import gc
import io
import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
import rasterio
from mlflow.models import infer_signature
from rasterio.enums import ColorInterp

from area import CRS, TRANSFORM, Area, make_project
from maps import BRIGHT, DARK, FEATURES, known_classes, make_model, write_items
from model_servers import running
from terraflow.eo.maps.map import make_map
from terraflow.errors import ServiceError
from terraflow.serving.app.model.maps import Mapper
from terraflow.serving.app.model.served import load as load_served
from terraflow.serving.environments import make_environment
from terraflow.settings import Settings, load
from terraflow.storage import Storage
from terraflow.tracking.model_lock import LOCKS, compile_lock, installed
from terraflow.tracking.server_wheel import requirements


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("maps")


def save(path: Path, **changes: Any) -> Path:
    """Write a model as `train` logs it."""
    model = make_model(**changes)
    table = pd.DataFrame([[0.1, 0.1, 0.0]], columns=FEATURES)
    mlflow.sklearn.save_model(
        model.estimator,
        path,
        signature=infer_signature(table, model.estimator.predict(table)),
        pip_requirements=[],
        skops_trusted_types=["sklearn.tree._tree.Tree"],
        metadata=model.info.to_metadata(),
    )
    return path


@pytest.fixture(scope="module")
def server(folder: Path, free_tcp_port_factory: Callable[[], int]) -> Iterator[str]:
    with running(save(folder / "model"), folder, free_tcp_port_factory(), maps=True) as url:
        yield url


def data_uri(server: str) -> str:
    """Root of the store, by what the server says of it."""
    told = post(server, b'{"items": "x"}', "application/json").json()["message"]
    return str(told.partition("below ")[2].partition(",")[0])


def post(url: str, content: bytes, kind: str, **query: str) -> httpx.Response:
    return httpx.post(
        f"{url}/map",
        content=content,
        headers={"Content-Type": kind},
        params=query,
        timeout=120,
        trust_env=False,
    )


SITE = 'LOCAL_CS["site",UNIT["metre",1]]'


def image(
    names: tuple[str | None, ...] = ("red", "mask"), crs: str | None = CRS, driver: str = "GTiff"
) -> bytes:
    """A GeoTIFF of `known_classes`, with a band that tells what is clear."""
    numbers = known_classes()
    red = np.where(numbers == 2, DARK, BRIGHT).astype("uint16")
    bands = {"red": red, "B04": red, "mask": (numbers > 0).astype("uint16")}
    shape = {"width": red.shape[1], "height": red.shape[0], "count": len(names)}
    profile = {"driver": driver, "dtype": "uint16", "crs": crs, "transform": TRANSFORM}
    with rasterio.MemoryFile() as memory:
        with memory.open(**shape, **profile) as file:
            for number, name in enumerate(names, start=1):
                file.write(bands[name or ("B04" if number == 1 else "mask")], number)
                if name:
                    file.set_band_description(number, name)
            file.scales = (0.0001, *[1] * (len(names) - 1))
            file.offsets = (-0.1, *[0] * (len(names) - 1))
        return bytes(memory.read())


def classes(answer: httpx.Response) -> np.ndarray[Any, Any]:
    assert answer.status_code == 200, answer.text
    with rasterio.open(io.BytesIO(answer.content)) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        found: np.ndarray[Any, Any] = file.read(1)
        return found


def test_map_of_items_in_the_store_is_that_of_the_step(server: str, folder: Path) -> None:
    settings = load(["store=local", f"var={folder / 'var'}"])
    items = write_items(Area(Path(settings.data_uri) / "scene"))
    answer = post(server, json.dumps({"items": items}).encode(), "application/json")
    assert (classes(answer) == known_classes()).all()
    assert answer.headers["content-type"].startswith("image/tiff; application=geotiff")
    assert answer.headers["terraflow-version"] == "3"
    model = make_model()
    made = make_map(model, items, Storage(settings), output=str(folder / "made.tif"))
    with rasterio.open(made.map) as here, rasterio.open(io.BytesIO(answer.content)) as there:
        assert (here.read() == there.read()).all()
        assert here.colormap(1) == there.colormap(1)


@pytest.mark.parametrize("names", [("red", "mask"), ("B04", "mask"), (None, None)])
def test_map_of_a_geotiff_by_names_or_by_order(names: tuple[str | None, ...], server: str) -> None:
    answer = post(server, image(names), "image/tiff", datetime="2024-01-05")
    assert (classes(answer) == known_classes()).all()


def test_map_of_a_geotiff_takes_an_alpha_band_for_no_band_but_for_nodata(
    server: str, tmp_path: Path
) -> None:
    (tmp_path / "image.tif").write_bytes(image((None, None, None)))
    with rasterio.open(tmp_path / "image.tif", "r+") as file:
        file.colorinterp = [ColorInterp.gray, ColorInterp.gray, ColorInterp.alpha]
        alpha = np.full(file.shape, 65535, "uint16")
        alpha[:, :3] = 0
        file.write(alpha, 3)
    content = (tmp_path / "image.tif").read_bytes()
    answer = post(server, content, "image/tiff", datetime="2024-01-05")
    expected = known_classes()
    expected[:, :3] = 0
    assert (classes(answer) == expected).all()


@pytest.mark.parametrize(
    ("content", "kind", "when", "message"),
    [
        (b"{}", "application/json", "", 'names no items; send {"items": "URI"}, or a GeoTIFF'),
        (b"[", "application/json", "", "names no items"),
        (b'{"items": 3}', "application/json", "", "names no items"),
        (b'{"items": "/etc/passwd"}', "application/json", "", "/etc/passwd is not in the store"),
        (b'{"items": "ROOT/../../x"}', "application/json", "", "is not in the store; name items"),
        (b'{"items": "http://127.0.0.1:1/x"}', "application/json", "", "is not in the store"),
        (b'{"items": "ROOT/gone.json"}', "application/json", "", "gone.json"),
        (b"GIF89a", "image/tiff", "2024-01-05", "The body is no GeoTIFF that can be"),
        (b"", "image/tiff", "2024-01-05", "The body is no GeoTIFF that can be"),
        (image(), "image/tiff", "", "The time of the image, '', is no date; send it as ?datetime="),
        (image(), "image/tiff", "yesterday", "'yesterday', is no date"),
        (image(crs=None), "image/tiff", "2024-01-05", "has no CRS"),
        (image(crs=SITE), "image/tiff", "2024-01-05", "has the local CRS 'site', which can't be"),
        (
            image(("red",)),
            "image/tiff",
            "2024-01-05",
            "has 1 bands (B04), and the model takes B04, mask; describe them by these names",
        ),
        (image((None,) * 3), "image/tiff", "2024-01-05", "has 3 bands (without"),
    ],
)
def test_map_of_nonsense_is_a_sentence(
    content: bytes, kind: str, when: str, message: str, server: str
) -> None:
    content = content.replace(b"ROOT", data_uri(server).encode())
    answer = post(server, content, kind, datetime=when)
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["message"]


def test_map_that_reads_another_file_by_its_body_is_refused(server: str, tmp_path: Path) -> None:
    (tmp_path / "secret.tif").write_bytes(image())
    vrt = f"""<VRTDataset rasterXSize="24" rasterYSize="20"><VRTRasterBand dataType="UInt16"
    band="1"><SimpleSource><SourceFilename>{tmp_path / "secret.tif"}</SourceFilename>
    </SimpleSource></VRTRasterBand></VRTDataset>"""
    answer = post(server, vrt.encode(), "image/tiff", datetime="2024-01-05")
    assert answer.status_code == 400
    assert "no GeoTIFF" in answer.json()["message"]


def test_map_is_no_route_unless_it_is_asked_for(
    folder: Path, free_tcp_port_factory: Callable[[], int], tmp_path: Path
) -> None:
    model = save(tmp_path / "model", project=make_project(features={"composites": "whole"}))
    with running(model, tmp_path, free_tcp_port_factory()) as url:
        assert post(url, b"{}", "application/json").status_code == 404


def test_map_by_a_model_of_another_kind_is_a_sentence(
    model_folder: Path, free_tcp_port_factory: Callable[[], int], tmp_path: Path
) -> None:
    with running(model_folder, tmp_path, free_tcp_port_factory(), maps=True) as url:
        answer = post(url, image(), "image/tiff", datetime="2024-01-05")
    assert answer.status_code == 400
    assert "This model makes no maps: " in answer.json()["message"]


def test_mapper_lets_go_of_a_model_that_is_served_no_more(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    mapper, served = Mapper(), load_served(str(save(tmp_path / "model")))
    when = {"datetime": "2024-01-05"}
    assert mapper.map(served, image(), "image/tiff", when)
    before = weakref.ref(served.model.get_raw_model())
    del served
    gc.collect()
    assert before() is None


def test_map_and_log_in_an_environment_without_the_stack(
    tmp_path: Path,
    free_tcp_port: int,
    settings: Settings,
) -> None:
    model = save(tmp_path / "model")
    try:
        lock = compile_lock(["scikit-learn", *requirements(maps=True)], installed())
    except ServiceError as error:
        pytest.skip(f"no index of packages can be reached: {error}")
    (model / LOCKS[True]).write_text(lock)
    python = make_environment(settings, model, maps=True)
    options = {"maps": True, "log_share": 1}
    with running(model, tmp_path, free_tcp_port, str(python), **options) as url:
        answer = post(url, image(), "image/tiff", datetime="2024-01-05")
        assert (classes(answer) == known_classes()).all(), (tmp_path / "log").read_text()
        split = {"columns": FEATURES, "data": [[0.1, 0.1, 0.0]]}
        asked = httpx.post(
            f"{url}/invocations", json={"dataframe_split": split}, timeout=60, trust_env=False
        )
        assert asked.status_code == 200, asked.text
    assert list((tmp_path / "var" / "eo-data").glob("*/served/*/*/*.parquet"))
