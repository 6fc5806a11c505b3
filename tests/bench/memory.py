"""Memory that observing costs, and whether it grows: a uvicorn under full load, with and without.

    python tests/bench/memory.py [--requests 1000000]

Both servers answer so many requests, in turns; resident memory is read after a tenth, a half and all of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sink import collector
from throughput import Served

NAMES = ("bare", "ours")
_SLICE = 5
"""Seconds of load before the other server has its turn."""


def resident(process: int) -> float:
    """MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


def measure(requests: int) -> dict[str, dict[str, float]]:
    """By variant: MiB after a tenth, a half and all of the requests, and how many they were."""
    found: dict[str, dict[str, float]] = {name: {} for name in NAMES}
    with collector() as otlp:
        servers = [Served(name, otlp) for name in NAMES]
        try:
            assert all([server.answers() for server in servers])
            served = dict.fromkeys(NAMES, 0.0)
            while min(served.values()) < requests:
                for server in servers:
                    if served[server.name] >= requests:
                        continue
                    served[server.name] += server.load(_SLICE) * _SLICE
                    for mark, share in (("tenth", 0.1), ("half", 0.5), ("end", 1.0)):
                        if served[server.name] >= share * requests and mark not in found[server.name]:
                            found[server.name][mark] = resident(server.pid)
            for name, number in served.items():
                found[name]["requests"] = number
        finally:
            for server in servers:
                server.end()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    found = measure(parser.parse_args().requests)
    for name, row in found.items():
        print(f"{name:<8}" + "  ".join(f"{mark} {value:,.1f}" for mark, value in row.items()))
    print(f"ours over bare at the end: {found['ours']['end'] - found['bare']['end']:+.1f} MiB")
    print(f"ours from half to end:     {found['ours']['end'] - found['ours']['half']:+.1f} MiB")


if __name__ == "__main__":
    main()
