"""Sums the samples of a metrics page by labels; see exposition.py for families, exemplars and both formats."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families


class MetricsPage:
    """A metrics page in the Prometheus text format."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples with a name and these labels; the value `""` means that the label is absent."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and all(sample.labels.get(key, "") == value for key, value in labels.items())
        )

    def values_by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The sums of the samples with a name, by the values of some labels, without those that are zero."""
        sums: dict[tuple[str, ...], float] = {}
        for sample in self._samples:
            if sample.name == name and sample.value:
                key = tuple(sample.labels.get(label, "") for label in labels)
                sums[key] = sums.get(key, 0) + sample.value
        return sums

    def job_runs(self) -> dict[tuple[str, str, str], float]:
        """The number of job runs by job, outcome and error type."""
        return self.values_by(  # type: ignore[return-value]
            "connectsoft_job_duration_seconds_count", "connectsoft_job_name", "connectsoft_outcome", "error_type"
        )


def scrape(url: str) -> MetricsPage:
    """Scrape the metrics page of a service."""
    return MetricsPage(httpx.get(f"{url}/metrics", timeout=5).text)
