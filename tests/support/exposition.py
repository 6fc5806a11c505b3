"""Parses metrics pages of both formats with prometheus_client's parsers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

OPENMETRICS = {"accept": "application/openmetrics-text"}


@dataclass
class MetricsPage:
    """One scrape of a metrics page."""

    families: dict[str, Any]
    text: str

    def samples(self, name: str, **labels: str) -> Iterator[Any]:
        """The samples with a name that have these labels, among others."""
        for family in self.families.values():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    yield sample

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with a name that have these labels."""
        return float(sum(sample.value for sample in self.samples(name, **labels)))

    def has(self, name: str, **labels: str) -> bool:
        """Whether there is a sample with a name and these labels."""
        return next(self.samples(name, **labels), None) is not None

    def exemplars(self, name: str) -> list[Any]:
        """The exemplars of the samples with a name."""
        return [sample.exemplar for sample in self.samples(name) if sample.exemplar]


def parse_page(text: str, openmetrics: bool) -> MetricsPage:
    """Parse a page in the OpenMetrics or the Prometheus text format."""
    parse = parse_openmetrics if openmetrics else parse_text
    return MetricsPage({family.name: family for family in parse(text)}, text)


def scrape(url: str, openmetrics: bool = True) -> MetricsPage:
    """Scrape a service over a new connection, so that any of its workers can answer."""
    response = httpx.get(f"{url}/metrics", headers=OPENMETRICS if openmetrics else {}, timeout=30)
    assert response.status_code == 200, response.text
    assert ("openmetrics" in response.headers["content-type"]) is openmetrics
    return parse_page(response.text, openmetrics)
