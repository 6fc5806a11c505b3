"""Importer for Pyrra: ServiceLevelObjective resources of `pyrra.dev/v1alpha1`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers.document_structure import (
    Required,
    Scalar,
    Structure,
    document_name,
    validate_structure,
)
from connectsoft_obs.ops.slo.importers.imported_slo import ImportedSlo, sanitize_name
from connectsoft_obs.ops.slo.importers.omissions import Omissions
from connectsoft_obs.ops.slo.promql import format_number
from connectsoft_obs.slo.alerting import AlertGroup, Alerting
from connectsoft_obs.slo.durations import parse_duration
from connectsoft_obs.slo.indicators import Ratio
from connectsoft_obs.slo.model import SLO

_PREFIX = "pyrra.dev/"
_SPEC_KEYS = ("target", "window", "description", "indicator", "alerting")
_ALERTING_KEYS = ("disabled", "burnrates", "absent", "name")
_QUERY: Structure = Required({"metric": Required(Scalar.TEXT)})
_GAUGE: Structure = {"metric": Required(Scalar.TEXT)}
_STRUCTURE: Structure = {
    "spec": Required(
        {
            "target": Required(Scalar.NUMBER),
            "indicator": {
                "ratio": {"errors": _QUERY, "total": _QUERY},
                "latency": {"success": _QUERY, "total": _QUERY},
                "latencyNative": {"total": _QUERY, "latency": Required(Scalar.TEXT)},
                "bool_gauge": _GAUGE,
                "boolGauge": _GAUGE,
            },
            "alerting": {},
        }
    )
}


def read_document(document: Mapping[str, Any], omissions: Omissions) -> Iterator[ImportedSlo]:
    """Yield the SLO of one document; the label `pyrra.dev/service` names its service.

    As in Pyrra, labels and annotations that begin with `pyrra.dev/` become those of alerts.

    Raises:
        ConfigurationError: grouping, an unknown kind of indicator, or a value of a wrong type.
    """
    validate_structure(document, _STRUCTURE, f"the Pyrra document {document_name(document)}")
    metadata, spec = document.get("metadata") or {}, document.get("spec") or {}
    labels = metadata.get("labels") or {}
    name = sanitize_name(str(metadata.get("name", "")))
    omissions.unknown_keys(name, spec, _SPEC_KEYS)
    yield ImportedSlo(
        sanitize_name(str(labels[f"{_PREFIX}service"])) if labels.get(f"{_PREFIX}service") else "",
        SLO(
            name=name,
            objective=float(spec["target"]),
            sli=_read_indicator(spec.get("indicator") or {}, name),
            description=" ".join(str(spec.get("description") or "").split()),
            owner=str(labels.get(f"{_PREFIX}team") or ""),
            period=parse_duration(str(spec.get("window", "4w")), f"window of {name!r}"),
            alerting=_read_alerting(name, metadata, spec.get("alerting") or {}, omissions),
        ),
    )


def _read_alerting(
    name: str, metadata: Mapping[str, Any], alerting: Mapping[str, Any], omissions: Omissions
) -> Alerting:
    omissions.unknown_keys(f"{name} alerting", alerting, _ALERTING_KEYS)
    if alerting.get("name"):
        omissions.add(name, f"the alert name {alerting['name']} is not imported: names are derived from the SLO")
    propagated: dict[str, dict[str, Any]] = {}
    for key in ("labels", "annotations"):
        texts = metadata.get(key) or {}
        propagated[key] = {text.removeprefix(_PREFIX): texts[text] for text in texts if text.startswith(_PREFIX)}
        for text in texts:
            if not text.startswith(_PREFIX):
                omissions.add(name, f"the {key[:-1]} {text} of the resource is not imported")
    labels = {label: value for label, value in propagated["labels"].items() if label not in ("service", "team")}
    has_no_alerts = alerting.get("disabled") or alerting.get("burnrates") is False
    return Alerting(
        disable=tuple(AlertGroup) if has_no_alerts else (),
        no_data=False if alerting.get("absent") is False or alerting.get("disabled") else None,
        labels=omissions.labels(name, "label", labels),
        annotations=omissions.annotations(name, propagated["annotations"]),
    )


def _read_indicator(indicator: Mapping[str, Any], name: str) -> Ratio:
    for kind, content in indicator.items():
        if isinstance(content, Mapping) and content.get("grouping"):
            raise ConfigurationError(
                f"grouping={content['grouping']!r} of {name!r}",
                "it makes a separate SLO for each label value, which is not supported",
                "Write one SLO for each value, with the value in its selector.",
            )
        if kind == "ratio" and content:
            return Ratio(bad=_rate(content["errors"]["metric"]), total=_rate(content["total"]["metric"]))
        if kind == "latency" and content:
            total, in_time = _rate(content["total"]["metric"]), _rate(content["success"]["metric"])
            return Ratio(bad=f"{total} - {in_time}", total=total)
        if kind == "latencyNative" and content:
            return _native_histogram_ratio(content)
        if kind in ("bool_gauge", "boolGauge") and content:
            return _gauge_ratio(_one_line(content["metric"]))
    raise ConfigurationError(
        f"indicator of {name!r}",
        "its kind is not supported",
        "Use one of ratio, latency, latencyNative and bool_gauge.",
    )


def _rate(selector: str) -> str:
    return f"sum(rate({_one_line(selector)}[{{window}}]))"


def _native_histogram_ratio(content: Mapping[str, Any]) -> Ratio:
    histogram = _rate(content["total"]["metric"])
    threshold = format_number(parse_duration(str(content["latency"]), "latency"))
    total = f"histogram_count({histogram})"
    return Ratio(bad=f"(1 - histogram_fraction(0, {threshold}, {histogram})) * {total}", total=total)


def _gauge_ratio(selector: str) -> Ratio:
    """Return the ratio for a gauge that is 1 on success and 0 on failure; every sample is an event."""
    samples, successes = f"count_over_time({selector}[{{window}}])", f"sum_over_time({selector}[{{window}}])"
    return Ratio(bad=f"sum({samples}) - sum({successes})", total=f"sum({samples})")


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", str(text)).strip()
