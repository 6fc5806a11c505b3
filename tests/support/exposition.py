"""Reading a metrics page with Prometheus' own parsers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

OPENMETRICS = {"accept": "application/openmetrics-text"}


@dataclass
class Page:
    """One scrape."""

    families: dict[str, Any]
    text: str

    def samples(self, name: str, **labels: str) -> Iterator[Any]:
        """The samples with a name that have these labels."""
        for family in self.families.values():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    yield sample

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with a name that have these labels."""
        return float(sum(sample.value for sample in self.samples(name, **labels)))

    def has(self, name: str, **labels: str) -> bool:
        """Whether there is such a sample."""
        return next(self.samples(name, **labels), None) is not None

    def exemplars(self, name: str) -> list[Any]:
        """The exemplars of the samples with a name."""
        return [sample.exemplar for sample in self.samples(name) if sample.exemplar]


def page(text: str, openmetrics: bool) -> Page:
    """A page of one of the two formats."""
    parse = parse_openmetrics if openmetrics else parse_text
    return Page({family.name: family for family in parse(text)}, text)


def scrape(url: str, openmetrics: bool = True) -> Page:
    """Ask for the page on a connection of its own, so that any of the workers may answer."""
    answer = httpx.get(f"{url}/metrics", headers=OPENMETRICS if openmetrics else {}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert ("openmetrics" in answer.headers["content-type"]) is openmetrics
    return page(answer.text, openmetrics)
