"""Conversion of SLOs to and from plain dictionaries, the structure of `slo.toml` and of exports."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.alerting import Alerting
from connectsoft_obs.slo.durations import format_prometheus, parse_duration
from connectsoft_obs.slo.indicators import (
    Errors,
    Events,
    Freshness,
    Indicator,
    Matchers,
    OutageLimit,
    Ratio,
    enum_member,
    matchers,
)
from connectsoft_obs.slo.model import SLO, CompositeSLO, ServiceSLOs, Source
from connectsoft_obs.slo.objectives import quantile_as_percent
from connectsoft_obs.slo.policy import ErrorBudgetPolicy
from connectsoft_obs.slo.receivers import Receiver
from connectsoft_obs.slo.schema_validation import validate
from connectsoft_obs.vocabulary import (
    HTTP_METHOD,
    HTTP_ROUTE,
    JOB_DURATION,
    JOB_NAME,
    MESSAGING_DESTINATION,
    REQUEST_DURATION,
    Severity,
)

Table = Mapping[str, Any]
_DURATION_KEYS = frozenset({
    "period", "scrape_interval", "interval", "retention", "threshold", "within", "limit", "page_after",
    "review_every",
})  # fmt: skip
_SERVICE_KEYS = (
    "name", "team", "source", "selector", "period", "runbook_base", "dashboard_base", "always_on", "scraped",
)  # fmt: skip
_PROMETHEUS_KEYS = ("scrape_interval", "interval", "retention")
_POLICY_KEYS = tuple(field.name for field in dataclasses.fields(ErrorBudgetPolicy))
_ALERTING_KEYS = tuple(field.name for field in dataclasses.fields(Alerting))
_MATCHER_KEYS = ("routes", "methods", "job", "destination")


def from_dict(table: Table) -> ServiceSLOs:
    """Create the SLOs of a service from the tables of a file.

    Raises:
        ConfigurationError: a key is unknown or missing, or a value is not valid.
    """
    table = validate(table)
    service = _parse_durations(table["service"], "[service]")
    prometheus = _parse_durations(table.get("prometheus", {}), "[prometheus]")
    policy = _parse_durations(table.get("policy", {}), "[policy]")
    fields = {**service, **prometheus}
    if "review_at" in policy:
        fields["review_at"] = tuple(policy.pop("review_at"))
    fields["receivers"] = tuple(
        Receiver(severity=severity, **table["receivers"][severity.lower()])
        for severity in Severity
        if severity.lower() in table.get("receivers", {})
    )
    if policy:
        fields["policy"] = ErrorBudgetPolicy(**policy)
    fields["service"] = fields.pop("name")
    if "source" in fields:
        fields["source"] = enum_member(Source, fields["source"], "[service] source")
    service_slos = ServiceSLOs(
        slos=tuple(_slo_from_dict(slo) for slo in table.get("slo", ())),
        composites=tuple(_composite_from_dict(composite) for composite in table.get("composite", ())),
        **fields,
    )
    if not service_slos.slos:
        raise ConfigurationError("[[slo]]", "the file declares no SLO", "Add a [[slo]] table.")
    return service_slos


def to_dict(service_slos: ServiceSLOs) -> dict[str, Any]:
    """Convert the SLOs of a service to a dictionary of TOML tables. Fields with their default value are omitted."""
    defaults = ServiceSLOs(service=service_slos.service, slos=())
    service = {"name": service_slos.service} | _changed_fields(service_slos, defaults, _SERVICE_KEYS[1:])
    tables = {
        "service": service,
        "prometheus": _changed_fields(service_slos, defaults, _PROMETHEUS_KEYS),
        "policy": _changed_fields(service_slos, defaults, ("review_at",))
        | _changed_fields(service_slos.policy, defaults.policy, _POLICY_KEYS),
        "receivers": {
            receiver.severity.lower(): {"type": receiver.type, "secret_file": receiver.secret_file}
            | ({"channel": receiver.channel} if receiver.channel else {})
            for receiver in service_slos.receivers
        },
        "slo": [slo_to_dict(slo) for slo in service_slos.slos],
        "composite": [
            {"name": composite.name, "all_of": list(composite.all_of)}
            | ({"description": composite.description} if composite.description else {})
            for composite in service_slos.composites
        ],
    }
    return {name: table for name, table in tables.items() if table}


def slo_to_dict(slo: SLO) -> dict[str, Any]:
    """Convert one SLO to its table. Fields with their default value are omitted."""
    defaults = SLO(name=slo.name, objective=slo.objective, sli=slo.sli)
    table: dict[str, Any] = {"name": slo.name}
    if slo.objective is not None and slo.sli.kind != "percentile":
        table["objective"] = slo.objective
    table["sli"] = _indicator_to_dict(slo.sli)
    table |= _changed_fields(slo, defaults, ("description", "owner", "runbook", "period", "traffic"))
    if alerting := _changed_fields(slo.alerting, Alerting(), _ALERTING_KEYS):
        table["alerting"] = alerting
    return table


def _slo_from_dict(table: Table) -> SLO:
    name = table["name"]
    fields = _parse_durations(table, repr(name))
    sli = _indicator_from_dict(fields.pop("sli"), name)
    if isinstance(sli, Events) and sli.quantile is not None:
        objective = quantile_as_percent(sli.quantile)
        if fields.setdefault("objective", objective) != objective:
            raise ConfigurationError(
                f"objective={fields['objective']} of {name!r}",
                f"its quantile {sli.quantile} already sets {objective:g} %",
                "Remove the objective.",
            )
    fields.setdefault("objective", None)
    if "alerting" in fields:
        fields["alerting"] = Alerting(**fields["alerting"])
    return SLO(sli=sli, **fields)


def _composite_from_dict(table: Table) -> CompositeSLO:
    return CompositeSLO(name=table["name"], all_of=tuple(table["all_of"]), description=table.get("description", ""))


def _indicator_from_dict(table: Table, name: str) -> Indicator:
    kind = table["kind"]
    fields = _parse_durations({key: value for key, value in table.items() if key != "kind"}, repr(name))
    if kind in ("freshness", "ratio"):
        return Freshness(**fields) if kind == "freshness" else Ratio(**fields)
    label_matchers = matchers(**{key: fields.pop(key) for key in _MATCHER_KEYS if key in fields})
    if kind == "outage_limit":
        return OutageLimit(matchers=label_matchers, **fields)
    return _events_from_fields(kind, fields, label_matchers)


def _events_from_fields(kind: str, fields: dict[str, Any], label_matchers: Matchers) -> Events:
    default_instrument = JOB_DURATION.name if kind == "success" else REQUEST_DURATION.name
    instrument = fields.setdefault("instrument", default_instrument)
    if kind in ("latency", "percentile"):
        default_errors = "apart" if instrument == REQUEST_DURATION.name else "bad"
        fields["errors"] = enum_member(Errors, fields.get("errors", default_errors), "errors")
    for key in ("bad_status", "boundaries"):
        if key in fields:
            fields[key] = tuple(fields[key])
    return Events(matchers=label_matchers, **fields)


def _indicator_to_dict(sli: Indicator) -> dict[str, Any]:
    table: dict[str, Any] = {"kind": sli.kind}
    if isinstance(sli, Ratio):
        return table | {"bad": sli.bad, "total": sli.total}
    if isinstance(sli, Freshness):
        source = {"job": sli.job} if sli.job else {"timestamp": sli.timestamp}
        return table | {"within": format_prometheus(sli.within)} | source
    if isinstance(sli, OutageLimit):
        limits = OutageLimit(limit=sli.limit, page_after=min(120.0, sli.limit / 2))
        table |= {"limit": format_prometheus(sli.limit), "page_after": format_prometheus(sli.page_after)}
        return table | _changed_fields(sli, limits, ("allowed", "outage_when")) | _matchers_to_dict(sli.matchers)
    default_instrument = {"success": JOB_DURATION.name}.get(sli.kind, REQUEST_DURATION.name)
    if sli.instrument != default_instrument:
        table["instrument"] = sli.instrument
    if sli.quantile is not None:
        table["quantile"] = sli.quantile
    if sli.threshold is not None:
        table |= {"threshold": format_prometheus(sli.threshold), "errors": sli.errors.value}
    for key in ("bad_status", "boundaries"):
        if values := getattr(sli, key):
            table[key] = list(values)
    return table | _matchers_to_dict(sli.matchers)


def _matchers_to_dict(label_matchers: Matchers) -> dict[str, Any]:
    keys = {HTTP_ROUTE: "routes", HTTP_METHOD: "methods", JOB_NAME: "job", MESSAGING_DESTINATION: "destination"}
    scalars = ("job", "destination")
    return {
        keys[attribute]: values[0] if keys[attribute] in scalars else list(values)
        for attribute, values in label_matchers
    }


def _changed_fields(instance: object, defaults: object, names: Iterable[str]) -> dict[str, Any]:
    """Return the fields of an instance that differ from the defaults, as TOML values."""
    fields = {}
    for name in names:
        value = getattr(instance, name)
        if value != getattr(defaults, name):
            if isinstance(value, tuple):
                value = list(value)
            fields[name] = format_prometheus(value) if name in _DURATION_KEYS else getattr(value, "value", value)
    return fields


def _parse_durations(table: Table, location: str) -> dict[str, Any]:
    """Return the table with its durations converted to seconds."""
    return {
        key: parse_duration(value, f"{key} of {location}") if key in _DURATION_KEYS else value
        for key, value in table.items()
    }
