"""Import time of the package, in CPU time relative to that of its dependencies; paired runs in new interpreters.

python tests/bench/imports.py [pairs]
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

PACKAGE = "import connectsoft_obs"
SERVICE = "import connectsoft_obs as o; o.ObservabilityMiddleware, o.bind, o.get_logger, o.readiness_check, o.counter"
"""The names that a web service uses."""

ALL_NAMES = "import connectsoft_obs as o; [getattr(o, n) for n in o.__all__]"

PACKAGE_DEPENDENCIES = "import opentelemetry.sdk.trace, structlog, prometheus_client"
SERVICE_DEPENDENCIES = "import opentelemetry.sdk.trace, opentelemetry.baggage, structlog, prometheus_client, orjson"


def cpu_seconds(code: str) -> float:
    """CPU time of a new interpreter that runs `code`; other processes affect it less than they affect elapsed time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ratio(code: str, reference: str, pairs: int = 9) -> float:
    """Cost of one import relative to another, without that of an empty interpreter: the median over paired runs.

    The ratio of the two minimums would be distorted if the machine is faster for a moment during one of them.
    """
    ratios = []
    for _ in range(pairs):
        cost, reference_cost, empty = cpu_seconds(code), cpu_seconds(reference), cpu_seconds("pass")
        ratios.append((cost - empty) / (reference_cost - empty))
    return statistics.median(ratios)


def main() -> None:
    """Measure and print."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    package = ratio(PACKAGE, PACKAGE_DEPENDENCIES, pairs)
    print(f"import connectsoft_obs           {package:.2f} of sdk.trace, structlog, prometheus_client")
    print(f"names that a web service uses    {ratio(SERVICE, SERVICE_DEPENDENCIES, pairs):.2f} of its dependencies")
    print(f"all public names                 {ratio(ALL_NAMES, SERVICE_DEPENDENCIES, pairs):.2f} of its dependencies")


if __name__ == "__main__":
    main()
