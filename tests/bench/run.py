"""All of it, beside the goals: in process, on a real server, in instructions.

    python tests/bench/run.py [--short] [--write docs/explanation]

Fails when a goal is missed by more than the noise of its own run. `--short` compares instructions alone with those of
the committed run and fails on a regression of more than 15 %. `--write` keeps the run as JSON, chart and page.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import inprocess
import instructions
import page
import scaling
import stall
import wire
from variants import VARIANTS

KEPT = Path(__file__).parents[2] / "docs" / "explanation" / "performance.json"
REGRESSION = 1.15
_ON_A_SERVER = ["bare", "ours", "ours, not exported", "structlog line", "instrumentator", "contrib with metrics"]
_COUNTED = ["ours", "ours, not exported", "ours, 0 % sampled", "ours, disabled", "structlog line", "instrumentator"]
_SHORT = ["ours, not exported"]


def goals(found: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """Each goal of a run: what it is about, the figure, the limit, and the noise of the figure."""
    own, counted, served = found["in process"], found["instructions"], found["server"]

    bare = counted["bare"]
    added = {name: count - bare for name, count in counted.items()}
    ours = own["ours"]["process"]["added"]
    return [
        ("all four signals, CPU over the bare route's", ours, 0.75, own["ours"]["process"]["noise"]),
        ("all four signals, instructions over the bare route's", added["ours"] / bare, 110 / 260, 0.02),
        ("0 % sampled, of all four signals' cost", added["ours, 0 % sampled"] / added["ours"], 0.6, 0.02),
        ("disabled, instructions over the bare route's", added["ours, disabled"] / bare, 0.05, 0.01),
        (
            "requests/s on a real server, bare's in ours",
            1 / served["ours"]["ratio"], 1 / 0.65, served["ours"]["spread"][1] - served["ours"]["spread"][0],
        ),
        (
            "ms that a quarter second's slowest request is slower for exporting",
            found["stall"]["ours"][0] - found["stall"]["ours, not exported"][0], 5.0, found["stall"]["bare"][0],
        ),
        ("cost with 2,000 routes, of that with 20", found["scaling"]["routes"]["2000"], 1.0, 0.25),
        ("cost with 20,000 series, of that with 100", found["scaling"]["series in the process"]["20000"], 1.0, 0.25),
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


def main() -> int:
    """Measure, print, compare, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    if options.short:
        return short()
    found: dict[str, Any] = {"when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "versions": versions()}
    found["in process"] = inprocess.measure(list(VARIANTS), options.rounds, 1500)
    print(inprocess.table(found["in process"]), end="\n\n")
    found["server"] = wire.measure(_ON_A_SERVER, max(3, options.rounds // 2), 3)
    print(wire.table(found["server"]), end="\n\n")
    found["instructions"] = instructions.per_request(["bare", *_COUNTED])
    for name, count in found["instructions"].items():
        print(f"{name:<26}{count / 1000:>10.1f} thousand instructions")
    found["scaling"] = scaling.measure(options.rounds)
    print(f"\n{scaling.table(found['scaling'])}\n")
    found["stall"] = stall.measure(4 * options.rounds)
    print(stall.table(found["stall"]))
    found["goals"] = goals(found)
    missed = 0
    print()
    for what, figure, limit, noise in found["goals"]:
        held = figure <= limit + noise
        missed += not held
        print(f"{'held  ' if held else 'MISSED'} {what}: {figure:.2f}, goal {limit:.2f}, noise {noise:.2f}")
    if options.write:
        page.write(options.write, found)
    return missed


if __name__ == "__main__":
    sys.exit(main())
