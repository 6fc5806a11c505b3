"""Sums over the five-minute tiles of a recorded series."""

from __future__ import annotations

from connectsoft_obs.ops.prometheus_api import PrometheusClient
from connectsoft_obs.ops.slo.sli_queries import TILE_SECONDS
from connectsoft_obs.slo.durations import DAY, format_prometheus

QUERY_CHUNK = 31 * DAY
"""Longest time that one query sums over. Longer sums take several queries: Azure Monitor allows at most 32 days."""


def sum_over_tiles(client: PrometheusClient, series: str, start: float, end: float) -> float:
    """Return the number of events: the sum over five-minute tiles of a recorded rate."""
    return _over_tiles("sum_over_time", client, series, start, end)


def covered_seconds(client: PrometheusClient, series: str, start: float, end: float) -> float:
    """Return the seconds for which a recorded series has data."""
    return _over_tiles("count_over_time", client, series, start, end)


def _over_tiles(function: str, client: PrometheusClient, series: str, start: float, end: float) -> float:
    """Return the number of events between two Unix times, as the sum over five-minute tiles of a recorded rate."""
    total, chunk_end = 0.0, end
    while chunk_end > start:
        length = min(QUERY_CHUNK, chunk_end - start)
        length -= length % TILE_SECONDS
        if length <= 0:
            break
        # One second less than the length, so that no tile is counted twice: before Prometheus 3 a range includes its
        # left end.
        window = format_prometheus(length - 1)
        total += (client.query_value(f"{function}({series}[{window}:5m])", chunk_end) or 0.0) * TILE_SECONDS
        chunk_end -= length
    return total
