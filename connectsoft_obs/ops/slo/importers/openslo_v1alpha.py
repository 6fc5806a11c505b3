"""Importer for OpenSLO v1alpha, in which each objective has its own ratio of good to total events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers.document_structure import (
    Required,
    Scalar,
    Structure,
    document_name,
    validate_structure,
)
from connectsoft_obs.ops.slo.importers.imported_slo import ImportedSlo, range_query, rate_query, sanitize_name
from connectsoft_obs.ops.slo.importers.omissions import Omissions
from connectsoft_obs.ops.slo.importers.openslo import threshold_error
from connectsoft_obs.slo.durations import DAY
from connectsoft_obs.slo.indicators import Ratio
from connectsoft_obs.slo.model import SLO

_SPEC_KEYS = ("service", "description", "indicator", "objectives", "timeWindows", "budgetingMethod")
_OBJECTIVE_KEYS = ("target", "ratioMetrics")
_STRUCTURE: Structure = {
    "spec": Required(
        {
            "indicator": {},
            "objectives": Required([{"target": Required(Scalar.NUMBER), "ratioMetrics": {"good": {}, "total": {}}}]),
            "timeWindows": [{"unit": Scalar.TEXT, "count": Scalar.NUMBER}],
        }
    )
}
_UNIT_SECONDS = {"Day": DAY, "Week": 7 * DAY}


def read_document(document: Mapping[str, Any], omissions: Omissions) -> Iterator[ImportedSlo]:
    """Yield the SLOs of one document, one for each of its objectives.

    Raises:
        ConfigurationError: a threshold metric, time slices or a calendar window, which have no equivalent, or a value of a
            wrong type.
    """
    metadata, spec = document.get("metadata") or {}, document.get("spec") or {}
    if document.get("kind") != "SLO":
        if document.get("kind") != "Service":
            omissions.add(str(metadata.get("name")), f"the document of kind {document.get('kind')} is not imported")
        return
    validate_structure(document, _STRUCTURE, f"the OpenSLO document {document_name(document)}")
    name = sanitize_name(str(metadata.get("name", "")))
    omissions.unknown_keys(name, spec, _SPEC_KEYS)
    for key in metadata:
        if key != "name":
            omissions.add(name, f"{key} of metadata is not imported")
    if spec.get("budgetingMethod", "Occurrences") != "Occurrences":
        raise ConfigurationError(
            f"budgetingMethod={spec['budgetingMethod']} of {name!r}",
            "time slices are not supported: the generated rules count events",
            "Use Occurrences.",
        )
    if (spec.get("indicator") or {}).get("thresholdMetric"):
        raise threshold_error(name)
    service, objectives = str(spec.get("service") or ""), spec.get("objectives") or ()
    for number, objective in enumerate(objectives, 1):
        omissions.unknown_keys(f"objective {number} of {name}", objective, _OBJECTIVE_KEYS)
        yield ImportedSlo(
            sanitize_name(service) if service else "",
            SLO(
                name=name if len(objectives) == 1 else f"{name}-{number}",
                objective=round(float(objective["target"]) * 100, 9),
                sli=_read_ratio(objective.get("ratioMetrics") or {}, name),
                description=" ".join(str(spec.get("description") or "").split()),
                period=_read_period(spec.get("timeWindows") or (), name),
            ),
        )


def _read_ratio(metrics: Mapping[str, Any], name: str) -> Ratio:
    queries = [(metrics.get(part) or {}).get("query") for part in ("good", "total")]
    if not all(isinstance(query, str) for query in queries):
        raise ConfigurationError(
            f"ratioMetrics of {name!r}", "it has no PromQL query for good and total", "Add good.query and total.query."
        )
    convert = rate_query if metrics.get("incremental", True) else range_query
    good, total = (convert(str(query), name) for query in queries)
    return Ratio(bad=f"{total} - {good}", total=total)


def _read_period(windows: Sequence[Mapping[str, Any]], name: str) -> float:
    if not windows:
        return 30 * DAY
    window = windows[0]
    if "calendar" in window or window.get("isRolling") is False or window.get("unit") not in _UNIT_SECONDS:
        raise ConfigurationError(
            f"timeWindows {dict(window)!r} of {name!r}",
            "calendar windows are not supported: error budgets cover a rolling window",
            "Use a rolling 28 or 30 days; `slo report` shows calendar months.",
        )
    count = window.get("count")
    return (1.0 if count is None else float(count)) * _UNIT_SECONDS[window["unit"]]
