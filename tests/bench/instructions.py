"""Instructions a request costs, by callgrind: repeatable to a fraction of a percent, whatever else the machine does.

    python tests/bench/instructions.py [variant ...]

Each variant is run twice, with few and with more requests; the difference, divided, is one request. Exports go to a
collector in another process, and what background threads do for the requests is counted too. Counted this way a program
runs fifty times slower, so what happens by the clock would count fifty times over: spans go out in full batches, as they
do at full load, metrics once at the end, and lines after a pause that is as much longer.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from sink import collector
from variants import VARIANTS, build

HERE = Path(__file__).parent
FEW, MORE = 512, 2560
SLOWED = 50
_BY_THE_CLOCK = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_METRIC_EXPORT_INTERVAL": "3600000"}


async def drive(name: str, count: int) -> None:
    """Handle `count` requests after a warm-up that both runs have in common."""
    from variant_process import receive, scope, send

    if name.startswith("ours"):
        from connectsoft_obs.signals.logs import stdout_writer
        from connectsoft_obs.signals.metrics import series

        stdout_writer.PAUSE *= SLOWED
        series.EXEMPLAR_MIN_INTERVAL_NS *= SLOWED
    app = build(name)
    for number in range(FEW + count):
        if number == FEW:  # whether a collection of everything falls into a run or not is chance
            gc.collect()
            gc.freeze()
        await app(scope(number % 100), receive, send)
        if not number % 50:
            await asyncio.sleep(0)
    await asyncio.sleep(0.3)
    if name.startswith("ours"):
        import connectsoft_obs as obs

        obs.configure().logs.flush(30)  # what waits for the end of that pause


def counted(name: str, requests: int, otlp: str, python: str = sys.executable) -> int:
    """Instructions of a whole run, by this Python or another one that has what the variant needs."""
    with tempfile.NamedTemporaryFile() as out:
        command = [
            "valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}",
            python, str(HERE / "instructions.py"), "--drive", name, str(requests),
        ]  # fmt: skip
        environment = {
            **os.environ,
            **_BY_THE_CLOCK,
            "BENCH_OTLP": otlp,
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(HERE),
        }
        ran = subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=600
        )
    found = re.search(r"Collected : (\d+)", ran.stderr)
    assert found, ran.stderr[-2000:]
    return int(found[1])


def per_request(names: list[str], python: str = sys.executable) -> dict[str, float]:
    """Instructions of one request, by variant."""
    found = {}
    with collector() as otlp:
        for name in names:
            found[name] = (counted(name, MORE, otlp, python) - counted(name, FEW, otlp, python)) / (MORE - FEW)
    return found


def main() -> None:
    """Count and print."""
    if "--drive" in sys.argv:
        asyncio.run(drive(sys.argv[2], int(sys.argv[3])))
        return
    names = sys.argv[1:] or ["ours", "ours, not exported", "structlog line", "instrumentator"]
    found = per_request(["bare", *names])
    print(f"{'variant':<26}{'thousands':>10}{'over bare':>11}")
    for name in sorted(found, key=list(VARIANTS).index):
        print(f"{name:<26}{found[name] / 1000:>10.1f}{(found[name] - found['bare']) / 1000:>11.1f}")


if __name__ == "__main__":
    main()
