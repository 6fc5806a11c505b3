"""Instructions per request, counted by callgrind: reproducible to a fraction of a percent on a busy machine.

    python tests/bench/instructions.py [variant ...]

Each variant runs twice, with fewer and with more requests; the difference of the counts, divided by the difference of
the requests, is the cost of one request. Exports go to a collector in another process, and the work of background
threads is included. Under callgrind a program runs about fifty times slower, so work that happens at intervals would be
counted fifty times too often: spans are exported in full batches, as they are at full load, metrics once at the end, and
the intervals of the log writer and of exemplars are extended by the same factor.
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

from sink import discarding_collector
from variants import VARIANTS, build

HERE = Path(__file__).parent
FEWER_REQUESTS, MORE_REQUESTS = 512, 2560
SLOWDOWN = 50
_LONG_INTERVALS = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_METRIC_EXPORT_INTERVAL": "3600000"}


async def handle_requests(name: str, count: int) -> None:
    """Handle `count` requests after a warm-up that is the same in both runs."""
    from variant_process import receive, scope, send

    if name.startswith("connectsoft-obs"):
        from connectsoft_obs.signals.logs import stdout_writer
        from connectsoft_obs.signals.metrics import series

        stdout_writer.WRITE_INTERVAL *= SLOWDOWN
        series.EXEMPLAR_MIN_INTERVAL_NS *= SLOWDOWN
    app = build(name)
    for number in range(FEWER_REQUESTS + count):
        if number == FEWER_REQUESTS:  # without this, a full collection happens in some runs and not in others
            gc.collect()
            gc.freeze()
        await app(scope(number % 100), receive, send)
        if not number % 50:
            await asyncio.sleep(0)
    await asyncio.sleep(0.3)
    if name.startswith("connectsoft-obs"):
        import connectsoft_obs as obs

        obs.configure().logs.flush(30)  # lines that would be written at the end of the extended interval


def count_instructions(name: str, requests: int, otlp: str, python: str = sys.executable) -> int:
    """Instructions of a run of this or another Python interpreter that has the dependencies of the variant."""
    with tempfile.NamedTemporaryFile() as out:
        command = [
            "valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}",
            python, str(HERE / "instructions.py"), "--variant", name, str(requests),
        ]  # fmt: skip
        environment = {
            **os.environ,
            **_LONG_INTERVALS,
            "BENCH_OTLP": otlp,
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(HERE),
        }
        run = subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=600
        )
    count = re.search(r"Collected : (\d+)", run.stderr)
    assert count, run.stderr[-2000:]
    return int(count[1])


def per_request(names: list[str], python: str = sys.executable) -> dict[str, float]:
    """Instructions of one request, by variant."""
    results = {}
    with discarding_collector() as otlp:
        for name in names:
            more = count_instructions(name, MORE_REQUESTS, otlp, python)
            fewer = count_instructions(name, FEWER_REQUESTS, otlp, python)
            results[name] = (more - fewer) / (MORE_REQUESTS - FEWER_REQUESTS)
    return results


def main() -> None:
    """Count and print."""
    if "--variant" in sys.argv:
        asyncio.run(handle_requests(sys.argv[2], int(sys.argv[3])))
        return
    names = sys.argv[1:] or ["connectsoft-obs", "connectsoft-obs, not exported", "structlog line", "instrumentator"]
    results = per_request(["bare", *names])
    print(f"{'variant':<26}{'thousands':>10}{'over bare':>11}")
    for name in sorted(results, key=list(VARIANTS).index):
        print(f"{name:<26}{results[name] / 1000:>10.1f}{(results[name] - results['bare']) / 1000:>11.1f}")


if __name__ == "__main__":
    main()
