"""Resident memory of a uvicorn under full load, with and without the middleware.

    python tests/bench/memory.py [--requests 1000000]

Both servers handle the same number of requests, in turn; resident memory is read after 10 %, 50 % and 100 % of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sink import discarding_collector
from throughput import ServerProcess

NAMES = ("bare", "connectsoft-obs")
_TURN = 5
"""Seconds of load before it is the other server's turn."""


def resident_mib(pid: int) -> float:
    """Resident memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


def measure(requests: int) -> dict[str, dict[str, float]]:
    """By variant: MiB after 10 %, 50 % and 100 % of the requests, and the exact number of requests."""
    results: dict[str, dict[str, float]] = {name: {} for name in NAMES}
    with discarding_collector() as otlp:
        servers = [ServerProcess(name, otlp) for name in NAMES]
        try:
            assert all([server.wait_until_listening() for server in servers])
            handled = dict.fromkeys(NAMES, 0.0)
            while min(handled.values()) < requests:
                for server in servers:
                    if handled[server.name] >= requests:
                        continue
                    handled[server.name] += server.load(_TURN) * _TURN
                    for mark, share in (("tenth", 0.1), ("half", 0.5), ("end", 1.0)):
                        if handled[server.name] >= share * requests and mark not in results[server.name]:
                            results[server.name][mark] = resident_mib(server.pid)
            for name, number in handled.items():
                results[name]["requests"] = number
        finally:
            for server in servers:
                server.stop()
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    results = measure(parser.parse_args().requests)
    for name, row in results.items():
        print(f"{name:<8}" + "  ".join(f"{mark} {value:,.1f}" for mark, value in row.items()))
    print(f"added memory at the end:     {results['connectsoft-obs']['end'] - results['bare']['end']:+.1f} MiB")
    print(
        f"growth in the second half:   {results['connectsoft-obs']['end'] - results['connectsoft-obs']['half']:+.1f} MiB"
    )


if __name__ == "__main__":
    main()
