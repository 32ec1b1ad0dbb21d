"""Map throughput, memory and accuracy: `invoke map`'s own path against others, on a large scene.

    python benchmarks/map_speed.py --folder /tmp/bench [--side 5490] [--only mlp plain_loop]

Beside each classifier of ours: scikit-learn's random forest in a plain windowed rasterio loop, and
Orfeo ToolBox where it is installed (Debian package otb-bin). Each trains and maps in processes of
its own. Seconds are from the plain file to the finished map, without starting the process.
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
from pathlib import Path
from statistics import median
from typing import Any

import joblib
import numpy as np
import rasterio
from scene import BANDS, Scene, make_scene
from sklearn.ensemble import RandomForestClassifier

__all__ = ["measure"]

#: As Orfeo ToolBox's defaults are told to be, for both forests.
TREES, DEPTH = 100, 15
OTHERS = ("plain_loop", "orfeo")
#: Ending of a model's name where no file of the map's quality is wanted.
WITHOUT = "_without_quality"
#: Maps of the default model, which is fast; of the others one.
RUNS = 3


def measure(folder: Path, side: int) -> dict[str, Any]:
    """Map a scene by each classifier and tool, and a quarter of its pixels by the default model.

    Returns
    -------
    dict
        "runs": name to seconds, megapixels a second, peak memory, and share of pixels whose
        class is the true one; "ratio_default_to_orfeo" of their throughputs, None where Orfeo
        ToolBox is not installed; "time_ratio_4x_pixels" of the default model, and
        "ratio_with_quality" of its throughputs with and without a file of the map's quality.
    """
    from terraflow.eo.config.sections import Model  # noqa: PLC0415
    from terraflow.eo.models.estimators import CLASSIFIERS  # noqa: PLC0415 - no part of others' memory

    default = Model().name
    names = (*CLASSIFIERS, f"{default}{WITHOUT}", *OTHERS)
    runs = {name: run(name, folder, side) for name in names if installed(name)}
    quarter = run(default, folder, side // 2)
    orfeo = runs.get("orfeo")
    ratio = runs[default]["mpx_per_s"] / orfeo["mpx_per_s"] if orfeo else None
    times = runs[default]["seconds"] / quarter["seconds"] * 4 * (side // 2) ** 2 / side**2
    return {
        "side": side,
        "runs": runs,
        "default": default,
        "ratio_default_to_orfeo": ratio and round(ratio, 2),
        "time_ratio_4x_pixels": round(times, 2),
        "ratio_with_quality": round(
            runs[default]["mpx_per_s"] / runs[f"{default}{WITHOUT}"]["mpx_per_s"], 2
        ),
        "peak_mb_default": runs[default]["peak_mb"],
    }


def installed(name: str) -> bool:
    """Tell whether it can be measured here."""
    return name != "orfeo" or bool(shutil.which("otbcli_ImageClassifier"))


def run(name: str, folder: Path, side: int) -> dict[str, float]:
    """Train and map, in processes of their own, and give the figures of the mapping."""
    from terraflow.eo.config.sections import Model  # noqa: PLC0415

    folder = folder.absolute() / f"map-{side}"
    scene = make_scene(folder, side)
    _step(name, "train", folder, side)
    maps = [
        _step(name, "map", folder, side)
        for _ in range(RUNS if name.removesuffix(WITHOUT) == Model().name else 1)
    ]
    seconds = median(one["seconds"] for one in maps)
    return {
        "seconds": round(seconds, 2),
        "mpx_per_s": round(side**2 / seconds / 1e6, 3),
        "peak_mb": max(one["peak_mb"] for one in maps),
        "accuracy": round(accuracy(map_path(name, folder), scene), 4),
    }


def _step(name: str, step: str, folder: Path, side: int) -> dict[str, float]:
    """Do one step in a process; return its seconds and peak memory."""
    command = [
        sys.executable,
        __file__,
        "--folder",
        str(folder.parent),
        "--side",
        str(side),
        "--only",
        name,
        "--step",
        step,
    ]
    environment = os.environ | {"TERRAFLOW_STORE": "local", "TERRAFLOW_VAR": str(folder / "var")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def map_path(name: str, folder: Path) -> Path:
    """Name the map that a step writes."""
    return folder / f"{name}.tif"


def train_ours(name: str, scene: Scene, folder: Path) -> None:
    """Fit one of our classifiers to the scene, as `train` does."""
    import pandas as pd  # noqa: PLC0415

    from terraflow import settings  # noqa: PLC0415
    from terraflow.eo.config.project_file import ProjectConfig  # noqa: PLC0415
    from terraflow.eo.hooks import Hooks  # noqa: PLC0415
    from terraflow.eo.images.ingest import ingest  # noqa: PLC0415
    from terraflow.eo.models.applicability import learn_applicability  # noqa: PLC0415
    from terraflow.eo.models.choice import choose_model, fit, one_thread  # noqa: PLC0415
    from terraflow.eo.models.model import LoadedModel, ModelInfo  # noqa: PLC0415
    from terraflow.eo.samples.draw import NOT_FEATURES  # noqa: PLC0415
    from terraflow.eo.samples.preprocess import preprocess, read_report  # noqa: PLC0415
    from terraflow.eo.targets.calibration import Calibration  # noqa: PLC0415
    from terraflow.storage import Storage  # noqa: PLC0415

    config = ProjectConfig.model_validate(
        {
            "name": "map-speed",
            "data": {"files": str(scene.image), "bands": {band: band for band in BANDS}},
            "labels": {"source": str(scene.points)},
            "features": {"composites": "whole", "statistics": []},
            "validation": {"block_size_px": 64},
            "model": {"name": name.removesuffix(WITHOUT)},
            "map": {"quality": not name.endswith(WITHOUT)},
        }
    )
    storage = Storage(settings.load())
    hooks = Hooks()
    prepared = preprocess(config, hooks, ingest(config, storage), storage)
    samples = pd.read_parquet(prepared.samples)
    others = {*NOT_FEATURES, hooks.target.column}
    features = samples.drop(columns=[name for name in others if name in samples])
    reference = samples[hooks.target.column]
    with one_thread():
        choice = choose_model(config.model, hooks.models, seed=config.seed)
        estimator = fit(choice.make(), features, reference)
    everywhere = dict.fromkeys(map(str, features.columns), 1.0)
    folds = np.arange(len(features)) % 5
    known = learn_applicability(features, everywhere, folds=folds, seed=config.seed)
    knots = np.linspace(0, 1, 101).tolist()
    sure = Calibration(confidence=knots, accuracy=knots, set_probability=0.3)
    info = ModelInfo(
        calibration=sure,
        levels=hooks.target.levels(reference),
        features=list(features.columns),
        periods=read_report(prepared.report, storage).periods,
        config=config.model_dump(mode="json"),
        seed=config.seed,
    )
    uri = f"models:/map-speed/{name}"
    loaded = LoadedModel(estimator, info, config, hooks, uri, "", "1", known)
    joblib.dump((loaded, prepared.items), folder / f"{name}.model")


def map_ours(name: str, _: Scene, folder: Path) -> float:
    """Map by `make_map`, from plain file to COG; return seconds."""
    from terraflow import settings  # noqa: PLC0415
    from terraflow.eo.maps.map import make_map  # noqa: PLC0415
    from terraflow.storage import Storage  # noqa: PLC0415

    loaded, items = joblib.load(folder / f"{name}.model")
    storage = Storage(settings.load())
    began = time.monotonic()
    make_map(loaded, items, storage, output=str(map_path(name, folder)))
    return time.monotonic() - began


def train_plain(scene: Scene, folder: Path) -> None:
    """Fit scikit-learn's forest."""
    forest = RandomForestClassifier(TREES, max_depth=DEPTH, n_jobs=-1, random_state=0)
    joblib.dump(forest.fit(*_training(scene)), folder / "plain_loop.model")


def map_plain(scene: Scene, folder: Path) -> float:
    """Map with scikit-learn in a windowed loop, as one writes it first; return seconds."""
    forest = joblib.load(folder / "plain_loop.model")
    began = time.monotonic()
    with rasterio.open(scene.image) as image:
        profile = image.profile | {"count": 1, "dtype": "uint8", "nodata": 0}
        with rasterio.open(map_path("plain_loop", folder), "w", **profile) as out:
            for row in range(0, image.height, 512):
                window = rasterio.windows.Window(0, row, image.width, min(512, image.height - row))
                pixels = image.read(window=window)
                flat = pixels.reshape(len(pixels), -1).T
                out.write(
                    forest.predict(flat).reshape(pixels.shape[1:]).astype("uint8"), 1, window=window
                )
    return time.monotonic() - began


def train_orfeo(scene: Scene, folder: Path) -> None:
    """Fit Orfeo ToolBox's random forest."""
    import geopandas as gpd  # noqa: PLC0415

    values, names = _training(scene)
    table = gpd.read_file(scene.points)
    for i in range(len(BANDS)):
        table[f"value_{i}"] = values[:, i].astype(float)
    table["class"] = names.astype(int)
    table.drop(columns="class_name").to_file(folder / "training.shp")
    subprocess.run(
        [
            "otbcli_TrainVectorClassifier",
            "-io.vd",
            str(folder / "training.shp"),
            "-io.out",
            str(folder / "orfeo.model"),
            "-feat",
            *(f"value_{i}" for i in range(len(BANDS))),
            "-cfield",
            "class",
            "-classifier",
            "rf",
            "-classifier.rf.nbtrees",
            str(TREES),
            "-classifier.rf.max",
            str(DEPTH),
        ],
        stdout=subprocess.DEVNULL,
        check=True,
    )


def map_orfeo(scene: Scene, folder: Path) -> float:
    """Map with Orfeo ToolBox; return seconds."""
    began = time.monotonic()
    subprocess.run(
        [
            "otbcli_ImageClassifier",
            "-in",
            str(scene.image),
            "-model",
            str(folder / "orfeo.model"),
            "-out",
            str(map_path("orfeo", folder)),
            "uint8",
        ],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began


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


def do(name: str, step: str, scene: Scene, folder: Path) -> dict[str, float]:
    """Do one step here; return its seconds, and the peak memory of what maps."""
    others = {
        ("plain_loop", "train"): train_plain,
        ("plain_loop", "map"): map_plain,
        ("orfeo", "train"): train_orfeo,
        ("orfeo", "map"): map_orfeo,
    }
    began = time.monotonic()
    if work := others.get((name, step)):
        seconds = work(scene, folder)
    else:
        seconds = (train_ours if step == "train" else map_ours)(name, scene, folder)
    # only Orfeo ToolBox is a child, and then this process is no part of it
    who = resource.RUSAGE_CHILDREN if name == "orfeo" else resource.RUSAGE_SELF
    return {
        "seconds": seconds or time.monotonic() - began,
        "peak_mb": round(resource.getrusage(who).ru_maxrss * 1024 / 1e6),
    }


def main() -> None:
    """Measure all, or some, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--side", type=int, default=5490, help="pixels")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--step", choices=("train", "map"), help="in this process")
    options = parser.parse_args()
    if options.step:
        folder = options.folder / f"map-{options.side}"
        name = options.only[0]
        told: Any = do(name, options.step, make_scene(folder, options.side), folder)
    elif options.only:
        told = {name: run(name, options.folder, options.side) for name in options.only}
    else:
        told = measure(options.folder, options.side)
    print(json.dumps(told, indent=None if options.step else 2))  # noqa: T201


if __name__ == "__main__":
    main()
