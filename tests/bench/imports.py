"""What importing costs, in processor time, beside what it is made of: paired runs in fresh interpreters.

python tests/bench/imports.py [pairs]
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

PACKAGE = "import connectsoft_obs"
SERVICE = "import connectsoft_obs as o; o.ObservabilityMiddleware, o.bind, o.get_logger, o.readiness_check, o.counter"
"""What a web service uses."""

EVERYTHING = "import connectsoft_obs as o; [getattr(o, n) for n in o.__all__]"

BESIDE = "import opentelemetry.sdk.trace, structlog, prometheus_client"
DEPENDENCIES = "import opentelemetry.sdk.trace, opentelemetry.baggage, structlog, prometheus_client, orjson"


def seconds(code: str) -> float:
    """Processor time of a fresh interpreter that runs `code`; other processes of the machine disturb it least."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ratio(ours: str, theirs: str, pairs: int = 9) -> float:
    """Cost of one import in units of the other: the median over pairs that ran at once, an empty interpreter taken off.

    Not the least of each, which a machine that is quicker for a moment gives to one of the two.
    """
    found = []
    for _ in range(pairs):
        own, other, empty = seconds(ours), seconds(theirs), seconds("pass")
        found.append((own - empty) / (other - empty))
    return statistics.median(found)


def main() -> None:
    """Measure and print."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print(
        f"import connectsoft_obs           {ratio(PACKAGE, BESIDE, pairs):.2f} of sdk.trace, structlog, prometheus_client"
    )
    print(f"what a web service uses          {ratio(SERVICE, DEPENDENCIES, pairs):.2f} of its dependencies")
    print(f"every name of it                 {ratio(EVERYTHING, DEPENDENCIES, pairs):.2f} of its dependencies")


if __name__ == "__main__":
    main()
