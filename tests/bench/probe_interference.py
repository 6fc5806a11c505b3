"""How much 2,000 probes per second slow down other requests, beyond the cost of the probes, on a saturated server.

A closed-loop client (wrk) sends requests alone, probes alone, and both alternately; the CPU time of the server is read
before and after. The cost of the mixture minus the sum of its parts is the excess cost of a probe; 2,000 times that is
the share of a core, and so of the throughput, that requests lose. As a control the probe is replaced by another route
without health code, which shows the effect that any two kinds of requests have on each other's caches.

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
from support.servers import program_path

RATE = 2000
SECONDS = 3
ALTERNATING_SCRIPT = """
local number = 0
local requests = { %s }
request = function()
  number = number + 1
  return wrk.format("GET", requests[number %% #requests + 1])
end
"""


def run_load(service: Service, paths: list[str], folder: Path) -> tuple[float, int]:
    """CPU seconds of the server, and the number of requests, for a few seconds of alternating requests to paths."""
    script = folder / "alternating.lua"
    script.write_text(ALTERNATING_SCRIPT % ", ".join(f'"{path}"' for path in paths))
    command = [program_path("wrk"), "-t1", "-c16", f"-d{SECONDS}s", "-s", str(script), service.url]
    before = cpu_seconds(service)
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = cpu_seconds(service)
    return after - before, int(next(line.split()[0] for line in output.splitlines() if "requests in" in line))


def cpu_seconds(service: Service) -> float:
    """CPU seconds of the server process."""
    return float(httpx.get(f"{service.url}/statistics", timeout=10).json()["cpu"])


def excess_cost(service: Service, path: str, folder: Path, first: int) -> float:
    """Microseconds that a request to `path` between two others costs more than it costs alone."""
    mixtures = [["/hello"], [path], ["/hello", "/hello", path]]
    results: dict[int, tuple[float, int]] = {}
    for turn in range(3):  # start with a different one in each round
        index = (first + turn) % 3
        results[index] = run_load(service, mixtures[index], folder)
    request_cost, path_cost = (results[index][0] / results[index][1] for index in (0, 1))
    seconds, count = results[2]
    return (seconds - count * (2 / 3) * request_cost - count / 3 * path_cost) / (count / 3) * 1e6


def main() -> None:
    """Print the share of a core at 2,000 probes per second for each round; the last line is a summary as JSON."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    shares_by_path: dict[str, list[float]] = {"/health/ready": [], "/statistics": []}
    with tempfile.TemporaryDirectory() as folder, uvicorn("bad_dependencies:app") as service:
        service.wait_until_ready()
        for number in range(rounds):
            for path, shares in shares_by_path.items():
                shares.append(excess_cost(service, path, Path(folder), number) * RATE / 1e6)
    for path, shares in shares_by_path.items():
        print(f"{path}: excess share of a core at {RATE}/s, by round: {[round(share, 4) for share in shares]}")
    summary = {}
    for path, shares in shares_by_path.items():
        low, median, high = statistics.quantiles(shares, n=4)
        summary[path] = {"median": round(median, 4), "quartiles": [round(low, 4), round(high, 4)]}
    print(json.dumps({"rounds": rounds, **summary}))


if __name__ == "__main__":
    main()
