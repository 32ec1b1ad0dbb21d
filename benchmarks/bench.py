"""All benchmarks: a table, and results.json beside the last committed ones.

    python benchmarks/bench.py [--only stack,dags,map,serve] [--folder var/bench]

What is judged is ratios in one run, and figures that hardly depend on the machine's speed; seconds
and rows are compared with the last results only on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Literal

import psutil

from terraflow.console import say, stop_on_sigterm, table
from terraflow.errors import ConfigError

__all__ = ["Figure", "compare", "run"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path("benchmarks/results.json")
#: A figure that is worse than the last by more than this share is a regression.
TOLERANCE = 0.2


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes
    ----------
    values : list of float
        Of each run; what counts is their median.
    bound : float or None
        What it should not exceed, or stay below where more is better.
    portable : bool
        Whether another machine gives about the same.
    """

    name: str
    values: list[float]
    unit: str = ""
    better: Literal["less", "more"] = "less"
    bound: float | None = None
    portable: bool = False

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def reached(self) -> bool:
        """Whether it keeps its bound."""
        if self.bound is None:
            return True
        return self.value <= self.bound if self.better == "less" else self.value >= self.bound

    def is_worse(self, last: Figure) -> bool:
        """Tell whether it has got worse by more than 20 %."""
        if self.better == "less":
            return self.value > last.value * (1 + TOLERANCE)
        return self.value < last.value * (1 - TOLERANCE)


def stack_figures(folder: Path) -> list[Figure]:
    """Figures of starting, running and stopping."""
    import stack_speed  # noqa: PLC0415 - loads what it measures

    measured = stack_speed.measure(folder / "stack")
    ours, naive = measured["terraflow"], measured["naive"]

    def ratios(key: str) -> list[float]:
        return [a / b for a, b in zip(ours[key], naive[key], strict=True)]

    return [
        Figure("start, ours / naive", ratios("ready_s"), bound=0.22, portable=True),
        Figure("start", ours["ready_s"], "s"),
        Figure("start, naive", naive["ready_s"], "s"),
        Figure("memory, ours / naive", ratios("memory_mb"), bound=0.38, portable=True),
        Figure("memory", ours["memory_mb"], "MB", portable=True),
        Figure("memory, naive", naive["memory_mb"], "MB", portable=True),
        Figure("idle", ours["idle_cores"], "cores", bound=0.10),
        Figure("idle, naive", naive["idle_cores"], "cores"),
        Figure("stop", ours["stop_s"], "s", bound=5.0),
        Figure("stop, naive", naive["stop_s"], "s"),
        *(Figure(key, ours[key], "s", bound=0.5) for key in ours if key.startswith("invoke")),
    ]


def dag_figures(folder: Path) -> list[Figure]:
    """Figures of reading DAG files, and of training as a DAG."""
    import dag_speed  # noqa: PLC0415 - loads what it measures

    measured = dag_speed.measure(folder / "dags")
    shell, airflow = measured["train_s"], measured["train_airflow_s"]
    more = [b - a for a, b in zip(shell, airflow, strict=True)]
    return [
        *(
            Figure(f"read {name}", took, "s", bound=0.3)
            for name, took in measured["parse_s"].items()
        ),
        Figure("train --airflow, beyond train", more, "s", bound=29),  # 15 + 2 for each of 7 tasks
        Figure("train", shell, "s"),
    ]


def map_figures(folder: Path) -> list[Figure]:
    """Figures of mapping a large scene."""
    import map_speed  # noqa: PLC0415 - loads what it measures

    measured = map_speed.measure(folder / "map", 5490)
    runs, default = measured["runs"], measured["default"]
    figures = [
        Figure(f"map, {name}", [run["mpx_per_s"]], "Mpx/s", "more") for name, run in runs.items()
    ]
    figures += [
        Figure(f"map accuracy, {name}", [run["accuracy"]], "", "more", portable=True)
        for name, run in runs.items()
    ]
    figures += [Figure(f"map memory, {name}", [run["peak_mb"]], "MB") for name, run in runs.items()]
    if "orfeo" in runs:
        better = runs[default]["accuracy"] - runs["orfeo"]["accuracy"]
        figures += [
            Figure(
                f"map, {default} / orfeo",
                [measured["ratio_default_to_orfeo"]],
                "",
                "more",
                bound=10,
                portable=True,
            ),
            Figure(
                f"map accuracy, {default} - orfeo",
                [round(better, 4)],
                "",
                "more",
                bound=0,
                portable=True,
            ),
        ]
    return [
        *figures,
        Figure(f"map memory, default ({default})", [measured["peak_mb_default"]], "MB", bound=1500),
        Figure(
            "map, with quality / without",
            [measured["ratio_with_quality"]],
            "",
            "more",
            bound=0.5,
            portable=True,
        ),
        Figure(
            "map, time for 4 x the pixels",
            [measured["time_ratio_4x_pixels"]],
            bound=4.2,
            portable=True,
        ),
    ]


def serve_figures(folder: Path) -> list[Figure]:
    """Figures of the model server."""
    import serve_speed  # noqa: PLC0415 - loads what it measures

    measured = serve_speed.measure(folder / "serve")
    figures = []
    for rows in measured["terraflow"]:
        ratio = measured["ratio_rows_per_s"][rows]
        bound = {"10000": 3.0}.get(rows, 1.0)
        figures.append(
            Figure(f"serve {rows} rows, ours / mlflow", [ratio], "", "more", bound, portable=True)
        )
        for name in ("terraflow", "mlflow"):
            run = measured[name][rows]
            figures += [
                Figure(f"serve {rows} rows, {name}", [run["rows_per_s"]], "rows/s", "more"),
                Figure(f"serve {rows} rows, {name} p50", [run["p50_ms"]], "ms"),
                Figure(f"serve {rows} rows, {name} p99", [run["p99_ms"]], "ms"),
            ]
    return figures


PARTS: dict[str, Callable[[Path], list[Figure]]] = {
    "stack": stack_figures,
    "dags": dag_figures,
    "map": map_figures,
    "serve": serve_figures,
}


def run(parts: list[str], folder: Path) -> list[Figure]:
    """Measure, print the table and write results.json; parts that were left out stay in it.

    Returns
    -------
    list of Figure
        Those that miss their bound or have got worse.

    Raises
    ------
    ConfigError
        There is no such part.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise ConfigError(
            f"--only {','.join(unknown)} names no benchmark; choose among {', '.join(PARTS)}."
        )
    last = _committed()
    path = ROOT / RESULTS
    document = json.loads(path.read_text()) if path.exists() else {}
    machine = describe_machine()
    bad = []
    for part in parts or list(PARTS):
        say(f"Measuring {part}")
        figures = PARTS[part](folder)
        before = last.get(part, {})
        verdicts = compare(figures, before, machine)
        show(figures, verdicts)
        bad += [figure for figure in figures if verdicts[figure.name]]
        document[part] = {"machine": machine, "figures": [asdict(figure) for figure in figures]}
        path.write_text(json.dumps(document, indent=1) + "\n")
    say(f"Written to {RESULTS}; commit it to compare later runs with it.")
    return bad


def compare(
    figures: list[Figure], before: dict[str, Any], machine: dict[str, Any]
) -> dict[str, str]:
    """Judge figures by their bounds and by the last results.

    Parameters
    ----------
    before : dict
        "machine" and "figures" of the last results; empty where there are none.

    Returns
    -------
    dict
        What is wrong with each figure, by its name; "" where nothing is.
    """
    known = before.get("machine", {})
    same = all(known.get(key) == machine.get(key) for key in ("processor", "cores", "memory_gib"))
    last = {values["name"]: Figure(**values) for values in before.get("figures", [])}
    verdicts = {}
    for figure in figures:
        wrong = []
        if not figure.reached:
            wrong.append("misses its bound")
        old = last.get(figure.name)
        if old and (same or figure.portable) and figure.is_worse(old):
            wrong.append(f"REGRESSION from {old.value:.4g}")
        verdicts[figure.name] = "; ".join(wrong)
    return verdicts


def show(figures: list[Figure], verdicts: dict[str, str]) -> None:
    """Print the table: median and range of the runs."""
    sign = {"less": "<=", "more": ">="}
    rows = []
    for figure in figures:
        span = f"{min(figure.values):.4g} .. {max(figure.values):.4g}"
        bound = "" if figure.bound is None else f"{sign[figure.better]} {figure.bound:g}"
        rows.append(
            (
                figure.name,
                f"{figure.value:.4g} {figure.unit}".strip(),
                span if len(figure.values) > 1 else "",
                bound,
                verdicts[figure.name],
            )
        )
    table(("figure", "median", "range", "bound", "verdict"), rows)


def describe_machine() -> dict[str, Any]:
    """Tell what was measured on."""
    found = ""
    if (info := Path("/proc/cpuinfo")).exists():
        models = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        found = models[0] if models else ""
    return {
        "processor": found or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("apache-airflow", "mlflow", "jupyterlab")},
    }


def _committed() -> dict[str, Any]:
    """Read the results of the last commit."""
    shown = subprocess.run(
        ["git", "show", f"HEAD:{RESULTS}"], cwd=ROOT, capture_output=True, check=False
    )
    return dict(json.loads(shown.stdout)) if shown.returncode == 0 else {}


def main() -> None:
    """Run the benchmarks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="some of stack,dags,map,serve")
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "bench")
    options = parser.parse_args()
    stop_on_sigterm()  # so that what is being measured is stopped too
    try:
        bad = run([part for part in options.only.split(",") if part], options.folder.absolute())
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(int(bool(bad)))


if __name__ == "__main__":
    main()
