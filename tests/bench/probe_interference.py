"""What 2,000 probes a second take from requests beyond what the probes themselves cost, on a real saturated server.

One closed-loop client (wrk) asks for requests alone, for probes alone, and for both in turns; the server's CPU time is
read before and after. What the mixture costs beyond the sum of its parts is the excess of one probe; 2,000 of them a
second are the share of a core, and so of the throughput, that requests lose. As a control the probe is replaced by
another route without health code: whatever two kinds of work do to each other's caches is in both.

python tests/bench/probe_interference.py [rounds]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx
from support.process import Service, uvicorn
from support.servers import program

RATE = 2000
SECONDS = 3
MIX = """
local number = 0
local requests = { %s }
request = function()
  number = number + 1
  return wrk.format("GET", requests[number %% #requests + 1])
end
"""


def cost(service: Service, paths: list[str], folder: Path) -> tuple[float, int]:
    """CPU seconds of the server, and requests, of a few seconds of these paths in turns."""
    script = folder / "mix.lua"
    script.write_text(MIX % ", ".join(f'"{path}"' for path in paths))
    command = [program("wrk"), "-t1", "-c16", f"-d{SECONDS}s", "-s", str(script), service.url]
    before = cpu(service)
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = cpu(service)
    return after - before, int(next(line.split()[0] for line in out.splitlines() if "requests in" in line))


def cpu(service: Service) -> float:
    """CPU seconds of the server's process."""
    return float(httpx.get(f"{service.url}/account", timeout=10).json()["cpu"])


def excess(service: Service, other: str, folder: Path, first: int) -> float:
    """Microseconds that one `other` between two requests costs beyond requests and it alone."""
    kinds = [["/hello"], [other], ["/hello", "/hello", other]]
    found: dict[int, tuple[float, int]] = {}
    for turn in range(3):  # nobody is always the first
        kind = (first + turn) % 3
        found[kind] = cost(service, kinds[kind], folder)
    request, probe = (found[kind][0] / found[kind][1] for kind in (0, 1))
    mixed, number = found[2]
    return (mixed - number * (2 / 3) * request - number / 3 * probe) / (number / 3) * 1e6


def main() -> None:
    """Print the excess of each round and what it takes at 2,000 probes a second; JSON in the last line."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    taken: dict[str, list[float]] = {"/health/ready": [], "/account": []}
    with tempfile.TemporaryDirectory() as folder, uvicorn("bad_dependencies:app") as service:
        service.ready()
        for number in range(rounds):
            for other, shares in taken.items():
                shares.append(excess(service, other, Path(folder), number) * RATE / 1e6)
    for other, shares in taken.items():
        print(
            f"{other}: share of a core at {RATE}/s beyond its own cost, by round: {[round(one, 4) for one in shares]}"
        )
    summary = {}
    for other, shares in taken.items():
        low, middle, high = statistics.quantiles(shares, n=4)
        summary[other] = {"median": round(middle, 4), "quartiles": [round(low, 4), round(high, 4)]}
    print(json.dumps({"rounds": rounds, **summary}))


if __name__ == "__main__":
    main()
