"""Pyrra: ServiceLevelObjective resources of `pyrra.dev/v1alpha1`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers.imported import ImportedSlo, plain_name
from connectsoft_obs.ops.slo.promql import number
from connectsoft_obs.slo.durations import seconds
from connectsoft_obs.slo.indicators import Ratio
from connectsoft_obs.slo.model import SLO

_PREFIX = "pyrra.dev/"


def found(document: Mapping[str, Any]) -> Iterator[ImportedSlo]:
    """The promise of one document; its service is the label `pyrra.dev/service`.

    Raises:
        ConfigurationError: a grouped objective, which is several promises, or one of an unknown kind.
    """
    meta, spec = document.get("metadata") or {}, document.get("spec") or {}
    labels = meta.get("labels") or {}
    name = plain_name(str(meta.get("name", "")))
    yield ImportedSlo(
        plain_name(str(labels[f"{_PREFIX}service"])) if labels.get(f"{_PREFIX}service") else "",
        SLO(
            name=name,
            objective=float(spec["target"]),
            sli=_indicator(spec.get("indicator") or {}, name),
            description=" ".join(str(spec.get("description") or "").split()),
            owner=str(labels.get(f"{_PREFIX}team") or ""),
            period=seconds(str(spec.get("window", "4w")), f"window of {name!r}"),
        ),
    )


def _indicator(indicator: Mapping[str, Any], name: str) -> Ratio:
    for kind, content in indicator.items():
        if content and content.get("grouping"):
            raise ConfigurationError(
                f"grouping={content['grouping']!r} of {name!r}",
                "a promise for each group is several promises",
                "Write one for each value, with the value in its selector.",
            )
        if kind == "ratio" and content:
            return Ratio(bad=_rate(content["errors"]["metric"]), total=_rate(content["total"]["metric"]))
        if kind == "latency" and content:
            total, in_time = _rate(content["total"]["metric"]), _rate(content["success"]["metric"])
            return Ratio(bad=f"{total} - {in_time}", total=total)
        if kind == "latencyNative" and content:
            return _native(content)
        if kind in ("bool_gauge", "boolGauge") and content:
            return _gauge(_one_line(content["metric"]))
    raise ConfigurationError(
        f"indicator of {name!r}", "it is of no known kind", "There are ratio, latency, latencyNative and bool_gauge."
    )


def _rate(selector: str) -> str:
    return f"sum(rate({_one_line(selector)}[{{window}}]))"


def _native(content: Mapping[str, Any]) -> Ratio:
    histogram = _rate(content["total"]["metric"])
    limit = number(seconds(str(content["latency"]), "latency"))
    total = f"histogram_count({histogram})"
    return Ratio(bad=f"(1 - histogram_fraction(0, {limit}, {histogram})) * {total}", total=total)


def _gauge(selector: str) -> Ratio:
    """A gauge that is 1 while all is well: every sample is an event."""
    counted, well = f"count_over_time({selector}[{{window}}])", f"sum_over_time({selector}[{{window}}])"
    return Ratio(bad=f"sum({counted}) - sum({well})", total=f"sum({counted})")


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", str(text)).strip()
