"""Sloth: `prometheus/v1` files, and the PrometheusServiceLevel resource that says the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers.imported import ImportedSlo, plain_name, range_query
from connectsoft_obs.slo.indicators import Ratio
from connectsoft_obs.slo.model import SLO


def found(document: Mapping[str, Any]) -> Iterator[ImportedSlo]:
    """The promises of one document. Names of alerts and their labels stay behind: ours follow from the promise.

    Raises:
        ConfigurationError: an indicator made by a plugin, whose queries are not in the file.
    """
    spec = document.get("spec", document)
    labels = spec.get("labels") or {}
    for one in spec.get("slos", ()):
        name = plain_name(str(one.get("name", "")))
        yield ImportedSlo(
            plain_name(str(spec.get("service", ""))),
            SLO(
                name=name,
                objective=float(one["objective"]),
                sli=_indicator(one.get("sli") or {}, name),
                description=" ".join(str(one.get("description") or "").split()),
                owner=str(labels.get("owner") or labels.get("team") or ""),
            ),
        )


def _indicator(sli: Mapping[str, Any], name: str) -> Ratio:
    if events := sli.get("events"):
        bad = events.get("error_query") or events.get("errorQuery")
        total = events.get("total_query") or events.get("totalQuery")
        return Ratio(bad=range_query(bad, name), total=range_query(total, name))
    if raw := sli.get("raw"):
        ratio = range_query(raw.get("error_ratio_query") or raw.get("errorRatioQuery"), name)
        # A ratio says nothing of how many events it is about: every moment weighs the same.
        return Ratio(bad=ratio, total=f"0 * ({ratio}) + 1")
    raise ConfigurationError(
        f"sli of {name!r}",
        "it is made by a plugin, whose queries are not in this file",
        "Take over the queries by hand.",
    )
