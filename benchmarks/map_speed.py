"""Map throughput, memory and accuracy: `invoke map`'s own path against others, on a large scene.

    python benchmarks/map_speed.py --folder /tmp/bench [--side 5490]

Beside each classifier of ours: scikit-learn's random forest in a plain windowed rasterio loop, and
Orfeo ToolBox where it is installed (Debian package otb-bin). Each runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from scene import BANDS, Scene, make_scene
from sklearn.ensemble import RandomForestClassifier

OURS = ("random_forest", "lightgbm", "mlp")
#: As Orfeo ToolBox's defaults are told to be, for both forests.
TREES, DEPTH = 100, 15


def ours(scene: Scene, folder: Path, model: str) -> tuple[float, Path]:
    """Map by `predict`, from plain file to COG; return seconds and the map."""
    os.environ |= {"TERRAFLOW_STORE": "local", "TERRAFLOW_VAR": str(folder / "var")}
    from land_cover.classifiers import fit, make_classifier  # noqa: PLC0415 - reads the environment
    from land_cover.config import ProjectConfig  # noqa: PLC0415
    from land_cover.ingest import ingest  # noqa: PLC0415
    from land_cover.models import LoadedModel  # noqa: PLC0415
    from land_cover.predict import predict  # noqa: PLC0415
    from land_cover.preprocess import preprocess, read_report  # noqa: PLC0415
    from land_cover.samples import NOT_FEATURES  # noqa: PLC0415
    from terraflow import settings  # noqa: PLC0415
    from terraflow.storage import Storage  # noqa: PLC0415

    project = ProjectConfig.model_validate({
        "name": "map-speed",
        "data": {"files": str(scene.image), "bands": {band: band for band in BANDS}},
        "labels": {"source": str(scene.points)},
        "features": {"composites": "whole", "statistics": []},
        "validation": {"block_size_px": 64},
        "model": {"name": model},
    })  # fmt: skip
    storage = Storage(settings.load())
    prepared = preprocess(project, ingest(project, storage), storage)
    import pandas as pd  # noqa: PLC0415

    samples = pd.read_parquet(prepared["samples"])
    features = samples.drop(columns=[name for name in NOT_FEATURES if name in samples])
    classifier = fit(make_classifier(project), features, samples["class_name"])
    loaded = LoadedModel(
        classifier=classifier, classes=sorted(samples["class_name"].unique()),
        features=list(features.columns), periods=read_report(prepared["report"], storage).periods,
        project=project, metadata={}, uri=f"models:/map-speed/{model}", run_id="", version="1",
    )  # fmt: skip
    began = time.monotonic()
    made = predict(loaded, prepared["items"], storage, output=str(folder / f"{model}.tif"))
    return time.monotonic() - began, Path(made["map"])


def plain_loop(scene: Scene, folder: Path) -> tuple[float, Path]:
    """Map with scikit-learn in a windowed loop, as one writes it first."""
    values, names = _training(scene)
    forest = RandomForestClassifier(TREES, max_depth=DEPTH, n_jobs=-1, random_state=0)
    forest.fit(values, names)
    path = folder / "plain.tif"
    began = time.monotonic()
    with rasterio.open(scene.image) as image:
        profile = image.profile | {"count": 1, "dtype": "uint8", "nodata": 0}
        with rasterio.open(path, "w", **profile) as out:
            for row in range(0, image.height, 512):
                window = rasterio.windows.Window(0, row, image.width, min(512, image.height - row))
                pixels = image.read(window=window)
                flat = pixels.reshape(len(pixels), -1).T
                out.write(forest.predict(flat).reshape(pixels.shape[1:]).astype("uint8"), 1,
                          window=window)  # fmt: skip
    return time.monotonic() - began, path


def orfeo(scene: Scene, folder: Path) -> tuple[float, Path]:
    """Map with Orfeo ToolBox's random forest."""
    values, names = _training(scene)
    import geopandas as gpd  # noqa: PLC0415

    table = gpd.read_file(scene.points)
    for i in range(len(BANDS)):
        table[f"value_{i}"] = values[:, i].astype(float)
    table["class"] = names.astype(int)
    table.drop(columns="class_name").to_file(folder / "training.shp")
    subprocess.run(
        ["otbcli_TrainVectorClassifier", "-io.vd", str(folder / "training.shp"), "-io.out",
         str(folder / "otb.model"), "-feat", *(f"value_{i}" for i in range(len(BANDS))), "-cfield",
         "class", "-classifier", "rf", "-classifier.rf.nbtrees", str(TREES),
         "-classifier.rf.max", str(DEPTH)], stdout=subprocess.DEVNULL, check=True)  # fmt: skip
    path = folder / "orfeo.tif"
    began = time.monotonic()
    subprocess.run(
        ["otbcli_ImageClassifier", "-in", str(scene.image), "-model", str(folder / "otb.model"),
         "-out", str(path), "uint8"], stdout=subprocess.DEVNULL, check=True)  # fmt: skip
    return time.monotonic() - began, path


def _training(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    import geopandas as gpd  # noqa: PLC0415

    points = gpd.read_file(scene.points)
    places = list(zip(points.geometry.x, points.geometry.y, strict=True))
    with rasterio.open(scene.image) as image:
        values = np.array(list(image.sample(places)))
    return values, points["class_name"].str.removeprefix("class ").astype(int).to_numpy()


def accuracy(path: Path, scene: Scene) -> float:
    """Share of all pixels whose class is the true one."""
    with rasterio.open(path) as found, rasterio.open(scene.truth) as truth:
        equal = sum(
            int((found.read(1, window=window) == truth.read(1, window=window)).sum())
            for _, window in truth.block_windows(1)
        )
        return equal / (truth.width * truth.height)


def run(name: str, scene: Scene, folder: Path) -> dict[str, float | str]:
    """Run one of them here and give its figures."""
    work: dict[str, Callable[[], tuple[float, Path]]] = {
        "plain loop": lambda: plain_loop(scene, folder), "orfeo": lambda: orfeo(scene, folder),
    }  # fmt: skip
    seconds, path = work[name]() if name in work else ours(scene, folder, name)
    who = resource.RUSAGE_CHILDREN if name == "orfeo" else resource.RUSAGE_SELF
    return {
        "name": name, "seconds": round(seconds, 1),
        "mpx_per_s": round(scene.side_px**2 / seconds / 1e6, 3),
        "peak_mb": round(resource.getrusage(who).ru_maxrss * 1024 / 1e6),
        "accuracy": round(accuracy(path, scene), 4),
    }  # fmt: skip


def main() -> None:
    """Run all, each in a process of its own, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--side", type=int, default=5490, help="pixels")
    parser.add_argument("--only", default="", help="one of them, in this process")
    options = parser.parse_args()
    folder = options.folder.absolute() / f"map-{options.side}"
    scene = make_scene(folder, options.side)
    if options.only:
        print(json.dumps(run(options.only, scene, folder)), flush=True)  # noqa: T201
        return
    names = [*OURS, "plain loop", *(["orfeo"] if shutil.which("otbcli_ImageClassifier") else [])]
    for name in names:
        subprocess.run([sys.executable, *sys.argv, "--only", name], check=True)


if __name__ == "__main__":
    main()
