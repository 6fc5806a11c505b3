"""Markdown reference of the metrics, generated from their definitions."""

from __future__ import annotations

from .metrics import METRICS, Instrument, Metric
from .process_metrics import PLATFORM_INFO, PROCESS_METRICS
from .prometheus import prometheus_name

_HEAD = "| OpenTelemetry name | on `/metrics` | instrument | unit | labels on `/metrics` | description |\n|---|---|---|---|---|---|\n"
_INFO_ROWS = (
    "| *resource attributes* | `target_info` | info |  | the resource attributes | Target metadata. |\n"
    f"| *resource attributes* | `{PLATFORM_INFO}` | info |  | `version`, `implementation`, `major`, `minor`, `patchlevel` "
    "| Python platform information. |\n"
)


def metrics_table() -> str:
    """All metrics as a Markdown table, in the order of their definition."""
    return _HEAD + "".join(_row(metric) for metric in (*METRICS, *PROCESS_METRICS)) + _INFO_ROWS


def _row(metric: Metric) -> str:
    suffix = "_total" if metric.instrument is Instrument.COUNTER else ""
    labels = ", ".join(f"`{prometheus_name(label)}`" for label in metric.labels)
    return (
        f"| `{metric.name}` | `{metric.family}{suffix}` | {metric.instrument.value} | "
        f"{f'`{metric.unit}`' if metric.unit else ''} | {labels} | {metric.help} |\n"
    )
