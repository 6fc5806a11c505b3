"""What the four signals say, as text: rates and quantiles from the scrape, the last trace, lines, health."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

_FAMILY = "http_server_request_duration_seconds"


@dataclass
class RouteNumbers:
    """Counts of one route at one scrape; `buckets` is cumulative by upper bound in seconds."""

    requests: float = 0
    bad: float = 0
    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))

    def quantile(self, share: float) -> float:
        """The quantile in seconds, interpolated in its bucket as Prometheus does; the last finite bound at most."""
        rank, below, lower = share * self.requests, 0.0, 0.0
        for bound, count in sorted(self.buckets.items()):
            if count >= rank and count > below:
                return lower if bound == float("inf") else lower + (bound - lower) * (rank - below) / (count - below)
            below, lower = count, bound
        return lower


def routes(page: str) -> dict[str, RouteNumbers]:
    """Numbers by method and route from a metrics page."""
    found: dict[str, RouteNumbers] = defaultdict(RouteNumbers)
    for family in text_string_to_metric_families(page):
        if family.name != _FAMILY:
            continue
        for sample in family.samples:
            numbers = found[f"{sample.labels['http_request_method']} {sample.labels.get('http_route', '(no route)')}"]
            if sample.name.endswith("_bucket"):
                numbers.buckets[float(sample.labels["le"])] += sample.value
            elif sample.name.endswith("_count"):
                numbers.requests += sample.value
                numbers.bad += sample.value if sample.labels.get("error_type") else 0
    return dict(found)


def table(numbers: dict[str, RouteNumbers], seconds: float) -> list[str]:
    """A row a route."""
    rows = [f"  {'route':<28}{'requests':>9}{'per s':>8}{'errors':>8}{'p50':>9}{'p95':>9}"]
    for route, one in sorted(numbers.items(), key=lambda item: -item[1].requests):
        p50, p95 = (f"{one.quantile(share) * 1000:.1f} ms" for share in (0.5, 0.95))
        rate = one.requests / seconds if seconds else 0
        rows.append(f"  {route:<28}{one.requests:>9.0f}{rate:>8.1f}{one.bad:>8.0f}{p50:>9}{p95:>9}")
    return rows


def tree(spans: list[Any]) -> list[str]:
    """A trace, indented by parent, with durations."""
    known = {span.span_id for span in spans}
    children: dict[bytes, list[Any]] = defaultdict(list)
    for span in spans:
        children[span.parent_span_id if span.parent_span_id in known else b""].append(span)

    def rows(parent: bytes, depth: int) -> list[str]:
        found = []
        for span in children[parent]:
            milliseconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            mark = " ERROR" if span.status.code == 2 else ""
            found.append(
                f"  {'   ' * depth}{'└─ ' if depth else ''}{span.name:<{44 - 3 * depth}}{milliseconds:8.2f} ms{mark}"
            )
            found += rows(span.span_id, depth + 1)
        return found

    return [f"  trace {spans[0].trace_id.hex()}", *rows(b"", 0)] if spans else ["  none yet"]


def health(body: bytes) -> str:
    """A health report in one line."""
    report = orjson.loads(body)
    checks = ", ".join(f"{name} {entry['status']}" for name, entry in report["entries"].items())
    return f"  {report['status']}{f' ({checks})' if checks else ''}"


def lines(said: list[str], most: int, width: int = 150) -> list[str]:
    """The last lines, cut to the width of a screen."""
    return [f"  {line.rstrip()[:width]}" for line in said[-most:]]
