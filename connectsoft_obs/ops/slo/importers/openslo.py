"""OpenSLO v1, in and out. What it cannot say travels in annotations, so that ours come back as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.explain import describe
from connectsoft_obs.ops.slo.importers.imported import ImportedSlo, plain_name, range_query, rate_query
from connectsoft_obs.ops.slo.sli_queries import RateWindow, sli_queries
from connectsoft_obs.slo.durations import DAY, prometheus, seconds
from connectsoft_obs.slo.indicators import OutageLimit, Ratio
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.slo.serialization import from_dict as from_tables
from connectsoft_obs.slo.serialization import slo_table, to_dict

VERSION = "openslo/v1"
_OURS = "connectsoft.io/promise"
_SERVICE = "connectsoft.io/service"
_MONTH = 30 * DAY


@dataclass(frozen=True, slots=True)
class _Counter(RateWindow):
    """No window at all: the counter itself, as OpenSLO has it."""

    def rate(self, counter: str) -> str:
        return counter


def exported(made: ServiceSLOs) -> list[dict[str, Any]]:
    """The documents of a service and its promises. Composites and limits on outages travel in annotations only."""
    whole = {key: value for key, value in to_dict(made).items() if key != "slo"}
    service = {
        "apiVersion": VERSION,
        "kind": "Service",
        "metadata": {"name": made.service.lower(), "annotations": {_SERVICE: json.dumps(whole, sort_keys=True)}},
        "spec": {"description": f"Promises of {made.service}."},
    }
    return [service, *(_document(made, slo) for slo in made.slos)]


def shared(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Indicators that documents refer to, by name, and services that we exported."""
    found: dict[str, Any] = {}
    for document in documents:
        if document.get("kind") in ("SLI", "Service"):
            meta = document.get("metadata") or {}
            content = (
                document.get("spec") if document["kind"] == "SLI" else (meta.get("annotations") or {}).get(_SERVICE)
            )
            found[f"{document['kind']}/{meta.get('name')}"] = content
    return found


def found(document: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[ImportedSlo]:
    """The promises of one document, one for each of its objectives.

    Raises:
        ConfigurationError: a threshold metric, time slices or a calendar window, which rules cannot keep.
    """
    if document.get("kind") != "SLO":
        return
    meta, spec = document.get("metadata") or {}, document.get("spec") or {}
    service = str(spec.get("service") or "")
    name = plain_name(str(meta.get("name", "")))
    if ours := (meta.get("annotations") or {}).get(_OURS):
        yield _ours(json.loads(ours), service, known.get(f"Service/{service}"))
        return
    if spec.get("budgetingMethod", "Occurrences") != "Occurrences":
        raise ConfigurationError(
            f"budgetingMethod={spec['budgetingMethod']} of {name!r}",
            "rules count events, not slices of time",
            "Use Occurrences; or freshness or a limit on outages, which are about time.",
        )
    indicator = spec.get("indicator") or {"spec": known.get(f"SLI/{spec.get('indicatorRef')}")}
    sli = _indicator(indicator.get("spec") or {}, name)
    objectives = spec.get("objectives") or ()
    for index, objective in enumerate(objectives):
        percent = objective.get("targetPercent")
        yield ImportedSlo(
            plain_name(service) if service else "",
            SLO(
                name=name if len(objectives) == 1 else f"{name}-{index + 1}",
                objective=float(percent) if percent is not None else round(float(objective["target"]) * 100, 9),
                sli=sli,
                description=" ".join(str(spec.get("description") or "").split()),
                period=_period(spec.get("timeWindow") or (), name),
            ),
        )


def _document(made: ServiceSLOs, slo: SLO) -> dict[str, Any]:
    found: dict[str, Any] = {
        "apiVersion": VERSION,
        "kind": "SLO",
        "metadata": {
            "name": made.id(slo).lower(),
            "displayName": made.id(slo),
            "annotations": {_OURS: json.dumps(slo_table(slo), sort_keys=True)},
        },
        "spec": {
            "description": slo.description or describe(slo),
            "service": made.service.lower(),
            "indicator": {"metadata": {"name": made.id(slo).lower()}, "spec": {"ratioMetric": _metric(made, slo)}},
            "timeWindow": [{"duration": prometheus(made.period_of(slo)), "isRolling": True}],
            "budgetingMethod": "Occurrences",
            "objectives": [{"displayName": describe(slo), "targetPercent": _target(slo)}],
        },
    }
    return found


def _target(slo: SLO) -> float:
    return 100 * (1 - slo.sli.outage_when) if isinstance(slo.sli, OutageLimit) else float(slo.objective or 0)


def _metric(made: ServiceSLOs, slo: SLO) -> dict[str, Any]:
    measured = sli_queries(made, slo)
    over = RateWindow("5m") if isinstance(slo.sli, Ratio) else _Counter("5m")
    return {
        "counter": not isinstance(slo.sli, Ratio),
        "bad": {"metricSource": {"type": "Prometheus", "spec": {"query": measured.bad(over)}}},
        "total": {"metricSource": {"type": "Prometheus", "spec": {"query": measured.total(over)}}},
    }


def _ours(promise: Mapping[str, Any], service: str, whole: str | None) -> ImportedSlo:
    """A promise that we exported, and what was exported of its service."""
    table = json.loads(whole) if whole else {"service": {"name": service}}
    made = from_tables({"service": table["service"], "slo": [promise]})
    return ImportedSlo(made.service, made.slos[0], table if whole else None)


def _indicator(spec: Mapping[str, Any], name: str) -> Ratio:
    metric = spec.get("ratioMetric")
    if not metric:
        raise ConfigurationError(
            f"indicator of {name!r}",
            "it is a threshold on a gauge, or is not in the file",
            "Write it as a ratio of events: good or bad over total.",
        )
    if "raw" in metric:
        raw = _averaged(_query(metric["raw"], name))
        ratio = raw if metric.get("rawType") == "failure" else f"1 - {raw}"
        return Ratio(bad=ratio, total=f"0 * ({ratio}) + 1")
    turned = rate_query if metric.get("counter", True) else range_query
    total = turned(_query(metric.get("total"), name), name)
    if "bad" in metric:
        return Ratio(bad=turned(_query(metric["bad"], name), name), total=total)
    good = turned(_query(metric.get("good"), name), name)
    return Ratio(bad=f"{total} - {good}", total=total)


def _averaged(query: str) -> str:
    """A recorded ratio, averaged over any window."""
    return f"avg_over_time(({' '.join(query.split())})[{{window}}:1m])"


def _query(source: Any, name: str) -> str:
    spec = ((source or {}).get("metricSource") or {}).get("spec") or {}
    for key in ("query", "promql", "expr"):
        if isinstance(spec.get(key), str):
            return str(spec[key])
    raise ConfigurationError(
        f"a metric source of {name!r}", "it has no PromQL query", "Put it in metricSource.spec.query."
    )


def _period(windows: Sequence[Mapping[str, Any]], name: str) -> float:
    if not windows:
        return _MONTH
    duration = str(windows[0].get("duration", "30d"))
    if "calendar" in windows[0] or windows[0].get("isRolling") is False or duration[-1:] in "MQY":
        raise ConfigurationError(
            f"timeWindow {duration!r} of {name!r}",
            "rules roll along; they cannot start anew on the first of a month",
            "Use a rolling 28d or 30d; `slo report` tells calendar months.",
        )
    return seconds(duration, f"timeWindow of {name!r}")
