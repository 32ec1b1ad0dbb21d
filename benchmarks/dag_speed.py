"""What Airflow costs: seconds to read each DAG file, and of a training run as a DAG.

    python benchmarks/dag_speed.py --folder /tmp/bench [--config FILE] [--runs 3]

A file is read in a new process that has imported Airflow, as its DAG processor does. The training
is run by `invoke train` and by its DAG in turn, on a stack of its own, where images and samples are
there before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from stack_speed import ROOT, TerraFlow, free_ports

from terraflow.console import stop_on_sigterm

__all__ = ["measure"]

READ = """
import sys, time
from airflow.dag_processing.dagbag import DagBag
began = time.perf_counter()
bag = DagBag(sys.argv[1], collect_dags=False)
bag.process_file(sys.argv[1], safe_mode=False)
took = time.perf_counter() - began
if bag.import_errors or not bag.dags:
    sys.exit(f"{sys.argv[1]} has no DAG, or can't be imported: {bag.import_errors}")
print(took)
"""


def measure(folder: Path, runs: int = 3, config: str = "") -> dict[str, Any]:
    """Read the files, and train both ways.

    Parameters
    ----------
    config : str
        A project file instead of config/PROJECT.toml.

    Returns
    -------
    dict
        "parse_s": seconds of each run by the file's name; "train_s" and "train_airflow_s": those of
        each run.
    """
    stack = TerraFlow(folder / "terraflow", free_ports())
    stack.environment["AIRFLOW_HOME"] = str(stack.var / "airflow")
    files = sorted((ROOT / "dags").glob("*.py"))
    parse_s = {path.name: [_read_s(path, stack.environment) for _ in range(runs)] for path in files}
    options = ["--config", config] if config else []
    stack.run(["up", "--detach"])
    try:
        stack.run(["train", *options])
        shell, airflow = [], []
        for _ in range(runs):
            shell.append(stack.run(["train", *options]))
            airflow.append(stack.run(["train", "--airflow", *options]))
    finally:
        stack.stop()
    return {"parse_s": parse_s, "train_s": shell, "train_airflow_s": airflow}


def _read_s(path: Path, environment: dict[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--config", default="")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    stop_on_sigterm()  # so that what runs is stopped
    figures = measure(options.folder.absolute() / "dags", options.runs, options.config)
    print(json.dumps(figures, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
