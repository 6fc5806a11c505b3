"""Detects from deployment files and settings whether Prometheus scrapes a service, or the service pushes its metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

MAX_FILES = 500
_SUFFIXES = frozenset({".yaml", ".yml", ".bicep", ".json", ".tf"})
_IGNORED_DIRECTORIES = frozenset({"node_modules", "venv", "site-packages", "build", "dist"})
_SCRAPED = re.compile(r"\b(PodMonitor|ServiceMonitor|prometheus\.io/scrape|scrape_configs)\b")
_PUSHED = re.compile(
    r"\b(Microsoft\.App/containerApps|Microsoft\.Web/sites|azurerm_container_app|azurerm_linux_web_app)\b"
)
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class MetricDelivery(NamedTuple):
    """Whether a service is scraped, None if unknown, and the reason."""

    scraped: bool | None
    reason: str


def detect_metric_delivery(directory: Path, environ: Mapping[str, str]) -> MetricDelivery:
    """Detect how the metrics of the service in a directory reach Prometheus.

    A `PodMonitor`, a `ServiceMonitor`, the scrape annotation or a scrape configuration mean that it is scraped; a
    Container App or App Service that it pushes, because nothing scrapes them. Without such a file, an OTLP endpoint for
    metrics in the environment means that it pushes. Different answers of several files are unknown.
    """
    evidence: dict[bool, str] = {}
    for file in _deployment_files(directory):
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for scraped, pattern in ((True, _SCRAPED), (False, _PUSHED)):
            if match := pattern.search(text):
                evidence.setdefault(scraped, f"{file.relative_to(directory)} contains {match[0]}")
    if len(evidence) == 1:
        [(scraped, reason)] = evidence.items()
        return MetricDelivery(scraped, reason)
    if evidence:
        return MetricDelivery(None, "; ".join(evidence.values()))
    if environ.get("OTEL_METRICS_EXPORTER", "otlp") != "none":
        for name in _ENDPOINTS:
            if environ.get(name):
                return MetricDelivery(False, f"{name} is set")
    return MetricDelivery(None, "no deployment file states it")


def _deployment_files(directory: Path) -> Iterator[Path]:
    """Yield the files that can describe a deployment, at most four directories deep."""
    count = 0
    for depth in range(5):
        for file in sorted(directory.glob("*/" * depth + "*")):
            parts = file.relative_to(directory).parts
            is_ignored = any(part.startswith(".") or part in _IGNORED_DIRECTORIES for part in parts)
            if file.suffix in _SUFFIXES and not is_ignored and file.is_file():
                count += 1
                if count > MAX_FILES:
                    return
                yield file
