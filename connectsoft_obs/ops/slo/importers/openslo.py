"""Importer and exporter for OpenSLO v1.

An export keeps what OpenSLO cannot express in annotations, so that importing it gives equal SLOs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.explain import describe
from connectsoft_obs.ops.slo.importers.document_structure import (
    Required,
    Scalar,
    Structure,
    document_name,
    validate_structure,
)
from connectsoft_obs.ops.slo.importers.imported_slo import ImportedSlo, range_query, rate_query, sanitize_name
from connectsoft_obs.ops.slo.importers.omissions import Omissions
from connectsoft_obs.ops.slo.sli_queries import RateWindow, sli_queries
from connectsoft_obs.slo.alerting import Alerting
from connectsoft_obs.slo.durations import DAY, format_prometheus, parse_duration
from connectsoft_obs.slo.indicators import OutageLimit, Ratio
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.slo.serialization import from_dict, slo_to_dict, to_dict

API_VERSION = "openslo/v1"
_SLO_ANNOTATION = "connectsoft.io/slo"
_SERVICE_ANNOTATION = "connectsoft.io/service"
_DEFAULT_PERIOD = 30 * DAY
_SPEC_KEYS = (
    "service", "description", "indicator", "indicatorRef", "objectives", "timeWindow", "budgetingMethod",
)  # fmt: skip
_STRUCTURE: Structure = {
    "spec": Required(
        {
            "objectives": Required([{"target": Scalar.NUMBER, "targetPercent": Scalar.NUMBER}]),
            "indicator": {},
            "timeWindow": [{}],
        }
    )
}
_SOURCE: Structure = {"metricSource": {"spec": {}}}
_INDICATOR: Structure = {"spec": {"ratioMetric": dict.fromkeys(("raw", "good", "bad", "total"), _SOURCE)}}


@dataclass(frozen=True, slots=True)
class _RawCounter(RateWindow):
    """The counter without `rate`, as OpenSLO expects it for `counter: true`."""

    def rate(self, counter: str) -> str:
        return counter


def export_documents(service_slos: ServiceSLOs) -> list[dict[str, Any]]:
    """Return the documents of a service and its SLOs.

    Composite SLOs have no document of their own: they are in the annotations of the service.
    """
    service_tables = {key: value for key, value in to_dict(service_slos).items() if key != "slo"}
    annotations = {_SERVICE_ANNOTATION: json.dumps(service_tables, sort_keys=True)}
    service_document = {
        "apiVersion": API_VERSION,
        "kind": "Service",
        "metadata": {"name": service_slos.service.lower(), "annotations": annotations},
        "spec": {"description": f"SLOs of {service_slos.service}."},
    }
    return [service_document, *(_slo_document(service_slos, slo) for slo in service_slos.slos)]


def collect_references(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what SLO documents refer to: SLI specs and exported service annotations, by `KIND/NAME`."""
    references: dict[str, Any] = {}
    for document in documents:
        kind, metadata = document.get("kind"), document.get("metadata") or {}
        if kind == "SLI":
            references[f"SLI/{metadata.get('name')}"] = document.get("spec")
        elif kind == "Service":
            annotations = metadata.get("annotations") or {}
            references[f"Service/{metadata.get('name')}"] = annotations.get(_SERVICE_ANNOTATION)
    return references


def read_document(
    document: Mapping[str, Any], references: Mapping[str, Any], omissions: Omissions
) -> Iterator[ImportedSlo]:
    """Yield the SLOs of one document, one for each of its objectives.

    Args:
        document: a document of any kind; only `SLO` documents yield something.
        references: the result of `collect_references`.
        omissions: records what is not imported.

    Raises:
        ConfigurationError: a threshold metric, time slices or a calendar window, which have no equivalent, or a value of a
            wrong type.
    """
    metadata = document.get("metadata") or {}
    if document.get("kind") != "SLO":
        if document.get("kind") not in ("SLI", "Service"):
            omissions.add(str(metadata.get("name")), f"the document of kind {document.get('kind')} is not imported")
        return
    document_subject = f"the OpenSLO document {document_name(document)}"
    validate_structure(document, _STRUCTURE, document_subject)
    spec = document["spec"]
    service = str(spec.get("service") or "")
    name = sanitize_name(str(metadata.get("name", "")))
    if annotation := (metadata.get("annotations") or {}).get(_SLO_ANNOTATION):
        yield _read_annotations(annotation, service, references.get(f"Service/{service}"))
        return
    if spec.get("budgetingMethod", "Occurrences") != "Occurrences":
        raise ConfigurationError(
            f"budgetingMethod={spec['budgetingMethod']} of {name!r}",
            "time slices are not supported: the generated rules count events",
            "Use Occurrences, or declare a freshness SLO or an outage limit to measure time instead of events.",
        )
    omissions.unknown_keys(name, spec, _SPEC_KEYS)
    alerting = Alerting(
        labels=omissions.labels(name, "label", metadata.get("labels")),
        annotations=omissions.annotations(name, metadata.get("annotations")),
    )
    indicator = spec.get("indicator") or {"spec": references.get(f"SLI/{spec.get('indicatorRef')}")}
    validate_structure(indicator, _INDICATOR, document_subject, "indicator")
    sli = _read_indicator(indicator.get("spec") or {}, name)
    objectives = spec["objectives"]
    for number, objective in enumerate(objectives, 1):
        omissions.unknown_keys(f"objective {number} of {name}", objective, ("target", "targetPercent"))
        yield ImportedSlo(
            sanitize_name(service) if service else "",
            SLO(
                name=name if len(objectives) == 1 else f"{name}-{number}",
                objective=_read_objective(objective, document_subject),
                sli=sli,
                description=" ".join(str(spec.get("description") or "").split()),
                period=_read_period(spec.get("timeWindow") or (), name),
                alerting=alerting,
            ),
        )


def _slo_document(service_slos: ServiceSLOs, slo: SLO) -> dict[str, Any]:
    slo_id = service_slos.slo_id(slo)
    return {
        "apiVersion": API_VERSION,
        "kind": "SLO",
        "metadata": {
            "name": slo_id.lower(),
            "displayName": slo_id,
            "annotations": {_SLO_ANNOTATION: json.dumps(slo_to_dict(slo), sort_keys=True)},
        },
        "spec": {
            "description": slo.description or describe(slo),
            "service": service_slos.service.lower(),
            "indicator": {
                "metadata": {"name": slo_id.lower()},
                "spec": {"ratioMetric": _ratio_metric(service_slos, slo)},
            },
            "timeWindow": [{"duration": format_prometheus(service_slos.period_seconds(slo)), "isRolling": True}],
            "budgetingMethod": "Occurrences",
            "objectives": [{"displayName": describe(slo), "targetPercent": _target_percent(slo)}],
        },
    }


def _target_percent(slo: SLO) -> float:
    return 100 * (1 - slo.sli.outage_when) if isinstance(slo.sli, OutageLimit) else float(slo.objective or 0)


def _ratio_metric(service_slos: ServiceSLOs, slo: SLO) -> dict[str, Any]:
    queries = sli_queries(service_slos, slo)
    window = RateWindow("5m") if isinstance(slo.sli, Ratio) else _RawCounter("5m")
    return {
        "counter": not isinstance(slo.sli, Ratio),
        "bad": {"metricSource": {"type": "Prometheus", "spec": {"query": queries.bad(window)}}},
        "total": {"metricSource": {"type": "Prometheus", "spec": {"query": queries.total(window)}}},
    }


def _read_objective(objective: Mapping[str, Any], document: str) -> float:
    if objective.get("targetPercent") is not None:
        return float(objective["targetPercent"])
    validate_structure(objective, {"target": Required(Scalar.NUMBER)}, f"an objective of {document}")
    return round(float(objective["target"]) * 100, 9)


def _read_annotations(slo_annotation: Any, service: str, service_annotation: Any) -> ImportedSlo:
    """Return an SLO that this package exported, and the exported settings of its service."""
    slo_table = _load_annotation(_SLO_ANNOTATION, slo_annotation)
    service_tables = {"service": {"name": service}}
    if service_annotation:
        service_tables = _load_annotation(_SERVICE_ANNOTATION, service_annotation)
    service_slos = from_dict({"service": service_tables.get("service"), "slo": [slo_table]})
    return ImportedSlo(service_slos.service, service_slos.slos[0], service_tables if service_annotation else None)


def _load_annotation(name: str, text: Any) -> dict[str, Any]:
    """Return the table that this package exported as JSON in an annotation."""
    try:
        table = json.loads(text)
    except (TypeError, ValueError):
        table = None
    if not isinstance(table, dict):
        raise ConfigurationError(
            f"the annotation {name}", "it is not a table in JSON", "Export the SLOs again with `slo export`."
        )
    return table


def _read_indicator(spec: Mapping[str, Any], name: str) -> Ratio:
    if "thresholdMetric" in spec:
        raise threshold_error(name)
    metric = spec.get("ratioMetric")
    if not metric:
        raise ConfigurationError(
            f"indicator of {name!r}",
            "it is missing in the file, or has no ratioMetric",
            "Add the SLI document that indicatorRef names, or write the indicator into the SLO.",
        )
    if "raw" in metric:
        raw = _average(_read_query(metric["raw"], name))
        ratio = raw if metric.get("rawType") == "failure" else f"1 - {raw}"
        return Ratio(bad=ratio, total=f"0 * ({ratio}) + 1")
    convert = rate_query if metric.get("counter", True) else range_query
    total = convert(_read_query(metric.get("total"), name), name)
    if "bad" in metric:
        return Ratio(bad=convert(_read_query(metric["bad"], name), name), total=total)
    good = convert(_read_query(metric.get("good"), name), name)
    return Ratio(bad=f"{total} - {good}", total=total)


def threshold_error(name: str) -> ConfigurationError:
    """Return the error for a `thresholdMetric`."""
    return ConfigurationError(
        f"thresholdMetric of {name!r}",
        "it is a threshold on a gauge, which has no events to count",
        "Write it as a ratio of events, good or bad over total; or as a freshness SLO if the gauge is a time.",
    )


def _average(query: str) -> str:
    """Return the average of a recorded ratio over `{window}`."""
    return f"avg_over_time(({' '.join(query.split())})[{{window}}:1m])"


def _read_query(source: Any, name: str) -> str:
    spec = ((source or {}).get("metricSource") or {}).get("spec") or {}
    for key in ("query", "promql", "expr"):
        if isinstance(spec.get(key), str):
            return str(spec[key])
    raise ConfigurationError(
        f"a metric source of {name!r}", "it has no PromQL query", "Put it in metricSource.spec.query."
    )


def _read_period(windows: Sequence[Mapping[str, Any]], name: str) -> float:
    if not windows:
        return _DEFAULT_PERIOD
    duration = str(windows[0].get("duration", "30d"))
    if "calendar" in windows[0] or windows[0].get("isRolling") is False or duration[-1:] in "MQY":
        raise ConfigurationError(
            f"timeWindow {duration!r} of {name!r}",
            "calendar windows are not supported: error budgets cover a rolling window",
            "Use a rolling 28d or 30d; `slo report` shows calendar months.",
        )
    return parse_duration(duration, f"timeWindow of {name!r}")
