"""Runs all benchmarks and compares the results with the performance goals.

    python tests/bench/run.py [--short] [--write docs/explanation] [--only "server,open loop"] [--python python3.13 ...]

The exit status is the number of goals that are missed by more than the noise of the run. `--short` only counts
instructions and fails on a regression of more than 15 % against the committed results. `--write` saves the results as
JSON and writes the performance page, its charts and the README's performance section (see report.py). `--only` measures
the named parts and takes the others from the saved results. `--python` names further interpreters, each of which gets an
environment of its own; without it, the saved results of that part are kept.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import export_stall
import imports
import inprocess
import instructions
import job
import latency
import memory
import python_versions
import report
import scaling
import throughput
from variants import VARIANTS

RESULTS = Path(__file__).parents[2] / "docs" / "explanation" / "performance.json"
REGRESSION = 1.15
_SERVER_VARIANTS = [
    "bare", "connectsoft-obs", "connectsoft-obs, not exported", "structlog line", "structlog line, request id", "instrumentator",
    "contrib with metrics",
]  # fmt: skip
_COUNTED_VARIANTS = [
    "connectsoft-obs", "connectsoft-obs, not exported", "connectsoft-obs, 0 % sampled", "connectsoft-obs, disabled", "structlog line", "structlog line, request id",
    "instrumentator", "contrib with metrics",
]  # fmt: skip
_SHORT_VARIANTS = ["connectsoft-obs, not exported"]


def goals(results: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """The goals of a run: name, figure, limit and the noise of the figure."""
    in_process, counted, server, scale = (results[part] for part in ("in process", "instructions", "server", "scaling"))
    bare = counted["bare"]
    added = {name: count - bare for name, count in counted.items()}
    p99, resident, jobs = results["open loop"]["connectsoft-obs"]["p99"], results["memory"], results["job"]
    job_cost = jobs["obs.job (metrics, trace, line)"]
    return [
        (
            "P1 CPU time added by all four signals, relative to the bare route",
            in_process["connectsoft-obs"]["process"]["added"], 0.75, in_process["connectsoft-obs"]["process"]["noise"],
        ),
        ("P1 thousand instructions added", added["connectsoft-obs"] / 1000, 110.0, 2.0),
        ("P1 instructions added, relative to the bare route", added["connectsoft-obs"] / bare, 110 / 260, 0.02),
        ("P1 instructions added, relative to a structlog access line", added["connectsoft-obs"] / added["structlog line"], 1.0, 0.02),
        (
            "P1 instructions added, relative to a structlog access line with a request id",
            added["connectsoft-obs"] / added["structlog line, request id"], 1.0, 0.02,
        ),
        (
            "P1 instructions added, relative to prometheus-fastapi-instrumentator (metrics only)",
            added["connectsoft-obs"] / added["instrumentator"], 0.5, 0.02,
        ),
        (
            "P1 instructions added, relative to OpenTelemetry contrib (metrics and traces)",
            added["connectsoft-obs"] / added["contrib with metrics"], 1 / 15, 0.005,
        ),
        (
            "P2 instructions added with 0 % sampled, relative to 100 %",
            added["connectsoft-obs, 0 % sampled"] / added["connectsoft-obs"], 0.6, 0.02,
        ),
        ("P2 instructions added when disabled, relative to the bare route", added["connectsoft-obs, disabled"] / bare, 0.05, 0.01),
        (
            "P3 requests/s of the bare route on a saturated server, relative to those with all four signals",
            1 / server["connectsoft-obs"]["ratio"], 1 / 0.65, server["connectsoft-obs"]["spread"][1] - server["connectsoft-obs"]["spread"][0],
        ),
        ("P3 p99 at 800 requests/s, relative to the bare route", p99["ratio"], 1.2, p99["noise"]),
        (
            "P3 ms that exporting adds to the slowest request in 250 ms (median)",
            results["stall"]["connectsoft-obs"][0] - results["stall"]["connectsoft-obs, not exported"][0], 5.0, results["stall"]["bare"][0],
        ),
        ("P4 CPU time added to a job, relative to autometrics (metrics only)", job_cost["async ratio"], 1.5, 0.1),
        (
            "P4 CPU time added to a job, relative to a span, labels() and structlog by hand",
            job_cost["async"] / jobs["span + labels() + structlog by hand"]["async"], 0.2, 0.02,
        ),
        (
            "P5 MiB more than the bare application after 1,000,000 requests",
            resident["connectsoft-obs"]["end"] - resident["bare"]["end"], 25.0, 0.5,
        ),
        ("P5 MiB growth during the second 500,000 requests", resident["connectsoft-obs"]["end"] - resident["connectsoft-obs"]["half"], 0.0, 1.0),
        ("P5 import time, relative to that of the dependencies", results["import"], 1.5, 0.05),
        ("P6 cost with 2,000 routes, relative to 20", scale["routes"]["2000"], 1.0, 0.25),
        ("P6 cost per request with 1,000 concurrent requests, relative to 1", scale["concurrent requests"]["1000"], 1.0, 0.25),
        ("P6 cost with 20,000 metric series, relative to 100", scale["metric series in the process"]["20000"], 1.0, 0.25),
    ]  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of Python and of the compared libraries, and the machine."""
    installed = {"python": platform.python_version(), "machine": f"{platform.machine()}, {platform.system()}"}
    for name in ("starlette", "uvicorn", "structlog", "prometheus-fastapi-instrumentator", "opentelemetry-sdk"):
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def short() -> int:
    """Compare instructions per request with the committed results; the number of variants that regressed."""
    if shutil.which("valgrind") is None:
        print("valgrind is not installed; nothing compared")
        return 0
    committed = json.loads(RESULTS.read_text())["instructions"]
    counted = instructions.per_request(["bare", *_SHORT_VARIANTS])
    regressions = 0
    for name in _SHORT_VARIANTS:
        ratio = (counted[name] / counted["bare"]) / (committed[name] / committed["bare"])
        print(f"{name}: {counted[name] / 1000:.1f} thousand instructions, {ratio:.2f} of the committed results")
        regressions += ratio > REGRESSION
    return regressions


def inside(rounds: int) -> dict[str, dict[str, float]]:
    """Cost of log lines and bindings within a request."""
    import log_line  # the libraries it compares with are not installed for `--short`

    ratios: dict[str, dict[str, float]] = log_line.ratios(rounds)
    return ratios


def parts(rounds: int, pythons: list[str]) -> dict[str, Callable[[], Any]]:
    """The parts of a run by name; `pythons` are the commands of further interpreters."""
    few = max(3, rounds // 2)
    return {
        "in process": lambda: inprocess.measure(list(VARIANTS), rounds, 1500),
        "server": lambda: throughput.measure(_SERVER_VARIANTS, few, 3),
        "workers": lambda: throughput.measure_workers(few, 3),
        "open loop": lambda: latency.measure(latency.DEFAULT_VARIANTS, 2 * rounds, 3),
        "instructions": lambda: instructions.per_request(["bare", *_COUNTED_VARIANTS]),
        **({"pythons": lambda: python_versions.measure(pythons)} if pythons else {}),
        "scaling": lambda: scaling.measure(rounds),
        "pieces": lambda: scaling.measure_chunks(rounds),
        "inside": lambda: inside(rounds),
        "stall": lambda: export_stall.measure(4 * rounds),
        "job": lambda: job.measure(3 * rounds, 1500),
        "memory": lambda: memory.measure(1_000_000),
        "import": lambda: imports.ratio(imports.SERVICE, imports.SERVICE_DEPENDENCIES, 3 * rounds),
    }


def main() -> int:
    """Measure, print the results and compare them with the goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--only", default="", help="parts to measure; the others are taken from the saved results")
    options = parser.parse_args()
    if options.short:
        return short()
    saved = RESULTS if options.write is None else options.write / RESULTS.name
    results: dict[str, Any] = json.loads(saved.read_text()) if saved.exists() else {}
    results |= {"versions": versions(), "goals": []}
    for name, measure in parts(options.rounds, options.python).items():
        if options.only and name not in options.only.split(","):
            continue
        start = time.monotonic()
        results[name] = measure()
        results.setdefault("when", {})[name] = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        print(f"{name}: {time.monotonic() - start:.0f} s\n{json.dumps(results[name], indent=1)}\n", flush=True)
    results["goals"] = goals(results)
    missed = 0
    print()
    for goal, figure, limit, noise in results["goals"]:
        status = report.goal_status(figure, limit, noise)
        missed += status == "missed"
        print(f"{status:<12} {goal}: {figure:.2f}, limit {limit:.2f}, noise {noise:.2f}")
    if options.write:
        report.write(options.write, results)
    return missed


if __name__ == "__main__":
    sys.exit(main())
