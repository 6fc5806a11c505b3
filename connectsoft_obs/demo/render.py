"""Formats health, metrics, logs and traces as text for a terminal."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

_FAMILY = "http_server_request_duration_seconds"


@dataclass
class RouteStatistics:
    """Counters of one route in one scrape. `buckets` has cumulative counts by upper bound in seconds."""

    requests: float = 0
    errors: float = 0
    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))

    def quantile(self, quantile: float) -> float:
        """Return a quantile in seconds, interpolated as by `histogram_quantile`; at most the last finite bound."""
        rank, below, lower = quantile * self.requests, 0.0, 0.0
        for bound, count in sorted(self.buckets.items()):
            if count >= rank and count > below:
                return lower if bound == float("inf") else lower + (bound - lower) * (rank - below) / (count - below)
            below, lower = count, bound
        return lower


def parse_routes(page: str) -> dict[str, RouteStatistics]:
    """Read the statistics of each method and route from a metrics page."""
    statistics: dict[str, RouteStatistics] = defaultdict(RouteStatistics)
    for family in text_string_to_metric_families(page):
        if family.name != _FAMILY:
            continue
        for sample in family.samples:
            route = statistics[
                f"{sample.labels['http_request_method']} {sample.labels.get('http_route', '(no route)')}"
            ]
            if sample.name.endswith("_bucket"):
                route.buckets[float(sample.labels["le"])] += sample.value
            elif sample.name.endswith("_count"):
                route.requests += sample.value
                route.errors += sample.value if sample.labels.get("error_type") else 0
    return dict(statistics)


def format_routes(statistics: dict[str, RouteStatistics], seconds: float) -> list[str]:
    """Format a table with a header and one row for each route.

    Args:
        statistics: statistics by route.
        seconds: duration for the request rate.
    """
    rows = [f"  {'route':<28}{'requests':>9}{'per s':>8}{'errors':>8}{'p50':>9}{'p95':>9}"]
    for name, route in sorted(statistics.items(), key=lambda item: -item[1].requests):
        p50, p95 = (f"{route.quantile(quantile) * 1000:.1f} ms" for quantile in (0.5, 0.95))
        rate = route.requests / seconds if seconds else 0
        rows.append(f"  {name:<28}{route.requests:>9.0f}{rate:>8.1f}{route.errors:>8.0f}{p50:>9}{p95:>9}")
    return rows


def format_trace(spans: list[Any]) -> list[str]:
    """Format a trace with durations, child spans indented below their parents."""
    span_ids = {span.span_id for span in spans}
    children: dict[bytes, list[Any]] = defaultdict(list)
    for span in spans:
        children[span.parent_span_id if span.parent_span_id in span_ids else b""].append(span)

    def format_children(parent: bytes, depth: int) -> list[str]:
        rows = []
        for span in children[parent]:
            milliseconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            status = " ERROR" if span.status.code == 2 else ""
            rows.append(
                f"  {'   ' * depth}{'└─ ' if depth else ''}{span.name:<{44 - 3 * depth}}{milliseconds:8.2f} ms{status}"
            )
            rows += format_children(span.span_id, depth + 1)
        return rows

    return [f"  trace {spans[0].trace_id.hex()}", *format_children(b"", 0)] if spans else ["  no traces yet"]


def format_health(body: bytes) -> str:
    """Format a health report as one line."""
    report = orjson.loads(body)
    checks = ", ".join(f"{name} {entry['status']}" for name, entry in report["entries"].items())
    return f"  {report['status']}{f' ({checks})' if checks else ''}"


def format_last_lines(lines: list[str], max_lines: int, width: int = 150) -> list[str]:
    """Format the last log lines, truncated to a width."""
    return [f"  {line.rstrip()[:width]}" for line in lines[-max_lines:]]
