"""What a metrics page says, as numbers by family and labels."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families


class Page:
    """A scraped page."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels; `""` for a label that must be absent."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and all(sample.labels.get(key, "") == value for key, value in labels.items())
        )

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The samples of this name by these labels, without those that are zero."""
        found: dict[tuple[str, ...], float] = {}
        for sample in self._samples:
            if sample.name == name and sample.value:
                key = tuple(sample.labels.get(label, "") for label in labels)
                found[key] = found.get(key, 0) + sample.value
        return found

    def endings(self) -> dict[tuple[str, str, str], float]:
        """Runs by job, outcome and error."""
        return self.by(  # type: ignore[return-value]
            "connectsoft_job_duration_seconds_count", "connectsoft_job_name", "connectsoft_outcome", "error_type"
        )


def scrape(url: str) -> Page:
    """The page of a service."""
    return Page(httpx.get(f"{url}/metrics", timeout=5).text)
