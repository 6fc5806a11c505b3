"""All of it, beside the goals: in process, on a real server, in instructions.

    python tests/bench/run.py [--short] [--write docs/explanation] [--only "server,open loop"] [--python python3.13 ...]

Fails when a goal is missed by more than the noise of its own run. `--short` compares instructions alone with those of
the committed run and fails on a regression of more than 15 %. `--write` keeps the run as JSON, pictures and page.
`--only` measures some parts again and leaves the others as they were kept. `--python` names other interpreters, which
get environments of their own; without it that part is left as it was.
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

KEPT = Path(__file__).parents[2] / "docs" / "explanation" / "performance.json"
REGRESSION = 1.15
_ON_A_SERVER = [
    "bare", "ours", "ours, not exported", "structlog line", "structlog line, request id", "instrumentator",
    "contrib with metrics",
]  # fmt: skip
_COUNTED = [
    "ours", "ours, not exported", "ours, 0 % sampled", "ours, disabled", "structlog line", "structlog line, request id",
    "instrumentator", "contrib with metrics",
]  # fmt: skip
_SHORT = ["ours, not exported"]


def goals(found: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """Each goal of a run: what it is about, the figure, the limit, and the noise of the figure."""
    own, counted, served, grown = found["in process"], found["instructions"], found["server"], found["scaling"]
    bare = counted["bare"]
    added = {name: count - bare for name, count in counted.items()}
    late, remembered, jobs = found["open loop"]["ours"]["p99"], found["memory"], found["job"]
    work = jobs["obs.job (metrics, trace, line)"]
    return [
        (
            "P1 all four signals, CPU over the bare route's",
            own["ours"]["process"]["added"], 0.75, own["ours"]["process"]["noise"],
        ),
        ("P1 thousand instructions over the bare route's", added["ours"] / 1000, 110.0, 2.0),
        ("P1 the same, of the bare route's own", added["ours"] / bare, 110 / 260, 0.02),
        ("P1 instructions, of a structlog line's", added["ours"] / added["structlog line"], 1.0, 0.02),
        (
            "P1 instructions, of a structlog line's with a request id",
            added["ours"] / added["structlog line, request id"], 1.0, 0.02,
        ),
        ("P1 instructions, of the instrumentator's (metrics only)", added["ours"] / added["instrumentator"], 0.5, 0.02),
        ("P1 instructions, of contrib traces and metrics", added["ours"] / added["contrib with metrics"], 1 / 15, 0.005),
        ("P2 0 % sampled, instructions of all four signals'", added["ours, 0 % sampled"] / added["ours"], 0.6, 0.02),
        ("P2 disabled, instructions over the bare route's", added["ours, disabled"] / bare, 0.05, 0.01),
        (
            "P3 requests/s on a saturated server, bare's in ours",
            1 / served["ours"]["ratio"], 1 / 0.65, served["ours"]["spread"][1] - served["ours"]["spread"][0],
        ),
        ("P3 p99 at 800 requests/s, of bare's", late["ratio"], 1.2, late["noise"]),
        (
            "P3 ms that a quarter second's slowest request is slower for exporting",
            found["stall"]["ours"][0] - found["stall"]["ours, not exported"][0], 5.0, found["stall"]["bare"][0],
        ),
        ("P4 a job, of autometrics (metrics only)", work["async ratio"], 1.5, 0.1),
        (
            "P4 a job, of span, labels() and structlog by hand",
            work["async"] / jobs["span + labels() + structlog by hand"]["async"], 0.2, 0.02,
        ),
        ("P5 MiB over bare after a million requests", remembered["ours"]["end"] - remembered["bare"]["end"], 25.0, 0.5),
        ("P5 MiB grown in the second half of them", remembered["ours"]["end"] - remembered["ours"]["half"], 0.0, 1.0),
        ("P5 import, of its dependencies'", found["import"], 1.5, 0.05),
        ("P6 cost with 2,000 routes, of that with 20", grown["routes"]["2000"], 1.0, 0.25),
        ("P6 cost of a request of 1,000 at once, of one alone", grown["requests at once"]["1000"], 1.0, 0.25),
        ("P6 cost with 20,000 series, of that with 100", grown["series in the process"]["20000"], 1.0, 0.25),
    ]  # fmt: skip


def versions() -> dict[str, str]:
    """What was compared, and on what."""
    found = {"python": platform.python_version(), "machine": f"{platform.machine()}, {platform.system()}"}
    for name in ("starlette", "uvicorn", "structlog", "prometheus-fastapi-instrumentator", "opentelemetry-sdk"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def short() -> int:
    """Instructions of this tree beside the committed run's."""
    if shutil.which("valgrind") is None:
        print("valgrind is not installed; nothing compared")
        return 0
    kept = json.loads(KEPT.read_text())["instructions"]
    found = instructions.per_request(["bare", *_SHORT])
    worse = 0
    for name in _SHORT:
        ratio = (found[name] / found["bare"]) / (kept[name] / kept["bare"])
        print(f"{name}: {found[name] / 1000:.1f} thousand instructions, {ratio:.2f} of the committed run's")
        worse += ratio > REGRESSION
    return worse


def inside(rounds: int) -> dict[str, dict[str, float]]:
    """What is said within a request."""
    import log_line  # its peers are not there where a run is only compared with the last one

    found: dict[str, dict[str, float]] = log_line.ratios(rounds)
    return found


def verdict(figure: float, limit: float, noise: float) -> str:
    """What became of a goal."""
    return "held" if figure <= limit else "within the noise" if figure <= limit + noise else "missed"


def parts(rounds: int, others: list[str]) -> dict[str, Callable[[], Any]]:
    """What a run consists of; `others` are other Pythons."""
    few = max(3, rounds // 2)
    return {
        "in process": lambda: inprocess.measure(list(VARIANTS), rounds, 1500),
        "server": lambda: throughput.measure(_ON_A_SERVER, few, 3),
        "workers": lambda: throughput.workers(few, 3),
        "open loop": lambda: latency.measure(latency.NAMES, 2 * rounds, 3),
        "instructions": lambda: instructions.per_request(["bare", *_COUNTED]),
        **({"pythons": lambda: python_versions.measure(others)} if others else {}),
        "scaling": lambda: scaling.measure(rounds),
        "pieces": lambda: scaling.pieces(rounds),
        "inside": lambda: inside(rounds),
        "stall": lambda: export_stall.measure(4 * rounds),
        "job": lambda: job.measure(3 * rounds, 1500),
        "memory": lambda: memory.measure(1_000_000),
        "import": lambda: imports.ratio(imports.SERVICE, imports.DEPENDENCIES, 3 * rounds),
    }


def main() -> int:
    """Measure, print, compare, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--only", default="", help="parts to measure, the others as they were kept")
    options = parser.parse_args()
    if options.short:
        return short()
    kept = KEPT if options.write is None else options.write / KEPT.name
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    found |= {"versions": versions(), "goals": []}
    for name, measure in parts(options.rounds, options.python).items():
        if options.only and name not in options.only.split(","):
            continue
        began = time.monotonic()
        found[name] = measure()
        found.setdefault("when", {})[name] = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        print(f"{name}: {time.monotonic() - began:.0f} s\n{json.dumps(found[name], indent=1)}\n", flush=True)
    found["goals"] = goals(found)
    missed = 0
    print()
    for what, figure, limit, noise in found["goals"]:
        became = verdict(figure, limit, noise)
        missed += became == "missed"
        print(f"{became:<16} {what}: {figure:.2f}, goal {limit:.2f}, noise {noise:.2f}")
    if options.write:
        report.write(options.write, found, verdict)
    return missed


if __name__ == "__main__":
    sys.exit(main())
