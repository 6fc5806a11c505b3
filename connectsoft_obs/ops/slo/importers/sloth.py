"""Importer for Sloth: `prometheus/v1` files, and the PrometheusServiceLevel resource with the same content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers.imported import ImportedSlo, range_query, sanitize_name
from connectsoft_obs.slo.indicators import Ratio
from connectsoft_obs.slo.model import SLO


def read_document(document: Mapping[str, Any]) -> Iterator[ImportedSlo]:
    """Yield the SLOs of one document. Alert names and alert labels are not imported: they are generated.

    Raises:
        ConfigurationError: an SLI plugin, whose queries are not in the file.
    """
    spec = document.get("spec", document)
    labels = spec.get("labels") or {}
    for entry in spec.get("slos", ()):
        name = sanitize_name(str(entry.get("name", "")))
        yield ImportedSlo(
            sanitize_name(str(spec.get("service", ""))),
            SLO(
                name=name,
                objective=float(entry["objective"]),
                sli=_read_indicator(entry.get("sli") or {}, name),
                description=" ".join(str(entry.get("description") or "").split()),
                owner=str(labels.get("owner") or labels.get("team") or ""),
            ),
        )


def _read_indicator(sli: Mapping[str, Any], name: str) -> Ratio:
    if events := sli.get("events"):
        bad = events.get("error_query") or events.get("errorQuery")
        total = events.get("total_query") or events.get("totalQuery")
        return Ratio(bad=range_query(bad, name), total=range_query(total, name))
    if raw := sli.get("raw"):
        ratio = range_query(raw.get("error_ratio_query") or raw.get("errorRatioQuery"), name)
        # A ratio does not include the number of events, so all times get the same weight.
        return Ratio(bad=ratio, total=f"0 * ({ratio}) + 1")
    raise ConfigurationError(
        f"sli of {name!r}",
        "it uses a plugin, whose queries are not in this file",
        "Replace the plugin by its queries: events with error_query and total_query.",
    )
