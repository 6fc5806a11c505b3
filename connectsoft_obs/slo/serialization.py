"""The model as plain tables and back: what a TOML file says, and what exports carry along."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.durations import prometheus, seconds
from connectsoft_obs.slo.indicators import (
    Errors,
    Events,
    Freshness,
    Indicator,
    OutageLimit,
    Ratio,
    enum_member,
    matchers,
)
from connectsoft_obs.slo.model import SLO, Alerting, CompositeSLO, ServiceSLOs, Source
from connectsoft_obs.slo.objectives import percent
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
_LENGTHS = frozenset({
    "period", "scrape_interval", "interval", "retention", "threshold", "within", "limit", "page_after",
})  # fmt: skip
_SERVICE = (
    "name", "team", "source", "selector", "period", "runbook_base", "dashboard_base", "always_on", "scraped",
)  # fmt: skip
_PROMETHEUS = ("scrape_interval", "interval", "retention")
_SLO = ("name", "objective", "sli", "description", "owner", "runbook", "period", "alerting", "traffic")
_ALERTING = ("min_bad_events", "hard_down", "no_data", "wide", "severity")
_WHERE = ("routes", "methods", "job", "destination")
_KINDS: dict[str, tuple[str, ...]] = {
    "http_availability": ("routes", "methods", "bad_status"),
    "latency": ("instrument", "threshold", "errors", "boundaries", "bad_status", *_WHERE),
    "percentile": ("instrument", "threshold", "errors", "boundaries", "bad_status", "quantile", *_WHERE),
    "success": ("instrument", "job", "destination"),
    "freshness": ("within", "job", "timestamp"),
    "outage_limit": ("limit", "allowed", "page_after", "outage_when", "routes", "methods"),
    "ratio": ("bad", "total"),
}


def from_dict(table: Table) -> ServiceSLOs:
    """A service's promises from the tables of a file.

    Raises:
        ConfigurationError: a key that does not exist, one that is missing, or a value that cannot work.
    """
    _known(table, ("service", "prometheus", "policy", "slo", "composite"), "the file")
    service = _lengths(_known(_table(table, "service"), _SERVICE, "[service]"), "[service]")
    if "name" not in service:
        raise ConfigurationError("[service]", "it has no name", 'Write name = "orders-api", as the telemetry has it.')
    prometheus_ = _lengths(_known(_table(table, "prometheus"), _PROMETHEUS, "[prometheus]"), "[prometheus]")
    policy = _known(_table(table, "policy"), ("review_at",), "[policy]")
    given = {**service, **prometheus_, **{key: tuple(value) for key, value in policy.items()}}
    given["service"] = given.pop("name")
    if "source" in given:
        given["source"] = enum_member(Source, given["source"], "[service] source")
    return ServiceSLOs(
        slos=tuple(_slo(one) for one in table.get("slo", ())),
        composites=tuple(_composite(one) for one in table.get("composite", ())),
        **given,
    )


def to_dict(made: ServiceSLOs) -> dict[str, Any]:
    """The tables of a service's promises, without what is a default."""
    plain = ServiceSLOs(service=made.service, slos=())
    service = {"name": made.service} | _changed(made, plain, _SERVICE[1:])
    policy = {} if made.review_at == plain.review_at else {"review_at": list(made.review_at)}
    found = {
        "service": service,
        "prometheus": _changed(made, plain, _PROMETHEUS),
        "policy": policy,
        "slo": [slo_table(slo) for slo in made.slos],
        "composite": [
            {"name": one.name, "all_of": list(one.all_of)}
            | ({"description": one.description} if one.description else {})
            for one in made.composites
        ],
    }
    return {key: value for key, value in found.items() if value}


def slo_table(slo: SLO) -> dict[str, Any]:
    """The table of one promise."""
    plain = SLO(name=slo.name, objective=slo.objective, sli=slo.sli)
    found: dict[str, Any] = {"name": slo.name}
    if slo.objective is not None and slo.sli.kind != "percentile":
        found["objective"] = slo.objective
    found["sli"] = _indicator_table(slo.sli)
    found |= _changed(slo, plain, ("description", "owner", "runbook", "period", "traffic"))
    if alerting := _changed(slo.alerting, Alerting(), _ALERTING):
        found["alerting"] = alerting
    return found


def _slo(table: Table) -> SLO:
    name = str(table.get("name", ""))
    given = _lengths(_known(table, _SLO, f"objective {name!r}"), repr(name))
    if "sli" not in given:
        raise ConfigurationError(f"objective {name!r}", "it has no sli", f"Say what is measured: {_kinds()}.")
    sli = _indicator(given.pop("sli"), name)
    if isinstance(sli, Events) and sli.quantile is not None:
        stated = percent(sli.quantile)
        if given.setdefault("objective", stated) != stated:
            raise ConfigurationError(
                f"objective={given['objective']} of {name!r}",
                f"its quantile {sli.quantile} already says {stated:g} %",
                "Leave the objective out.",
            )
    given.setdefault("objective", None)
    if "alerting" in given:
        alerting = dict(_known(given["alerting"], _ALERTING, f"alerting of {name!r}"))
        if "severity" in alerting:
            alerting["severity"] = enum_member(Severity, alerting["severity"], f"severity of {name!r}")
        given["alerting"] = Alerting(**alerting)
    given["name"] = name
    return SLO(sli=sli, **given)


def _composite(table: Table) -> CompositeSLO:
    given = dict(_known(table, ("name", "all_of", "description"), "a composite"))
    return CompositeSLO(
        name=str(given.get("name", "")), all_of=tuple(given.get("all_of", ())), description=given.get("description", "")
    )


def _indicator(table: Table, name: str) -> Indicator:
    kind = table.get("kind")
    if kind not in _KINDS:
        raise ConfigurationError(f"sli kind {kind!r} of {name!r}", "there is no such kind", f"There are {_kinds()}.")
    rest = {key: value for key, value in table.items() if key != "kind"}
    given = _lengths(_known(rest, _KINDS[kind], f"a {kind} sli"), repr(name))
    needed = {
        "latency": ("threshold",), "percentile": ("threshold", "quantile"), "freshness": ("within",),
        "outage_limit": ("limit",), "ratio": ("bad", "total"),
    }.get(kind, ())  # fmt: skip
    for key in needed:
        if key not in given:
            raise ConfigurationError(f"a {kind} sli of {name!r}", f"it has no {key}", f"Add {key}.")
    if kind in ("freshness", "ratio"):
        return Freshness(**given) if kind == "freshness" else Ratio(**given)
    chosen = matchers(**{key: given.pop(key) for key in _WHERE if key in given})
    if kind == "outage_limit":
        return OutageLimit(where=chosen, **given)
    return _events(kind, given, chosen)


def _events(kind: str, given: dict[str, Any], chosen: Any) -> Events:
    instrument = given.setdefault("instrument", JOB_DURATION.name if kind == "success" else REQUEST_DURATION.name)
    if kind in ("latency", "percentile"):
        usual = "apart" if instrument == REQUEST_DURATION.name else "bad"
        given["errors"] = enum_member(Errors, given.get("errors", usual), "errors")
    for key in ("bad_status", "boundaries"):
        if key in given:
            given[key] = tuple(given[key])
    return Events(where=chosen, **given)


def _indicator_table(sli: Indicator) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": sli.kind}
    if isinstance(sli, Ratio):
        return found | {"bad": sli.bad, "total": sli.total}
    if isinstance(sli, Freshness):
        return (
            found
            | {"within": prometheus(sli.within)}
            | _changed(sli, Freshness(within=1, job="-"), ("job", "timestamp"))
        )
    if isinstance(sli, OutageLimit):
        plain = OutageLimit(limit=sli.limit, page_after=min(120.0, sli.limit / 2))
        found |= {"limit": prometheus(sli.limit), "page_after": prometheus(sli.page_after)}
        return found | _changed(sli, plain, ("allowed", "outage_when")) | _where_table(sli.where)
    usual = {"success": JOB_DURATION.name}.get(sli.kind, REQUEST_DURATION.name)
    if sli.instrument != usual:
        found["instrument"] = sli.instrument
    if sli.quantile is not None:
        found["quantile"] = sli.quantile
    if sli.threshold is not None:
        found |= {"threshold": prometheus(sli.threshold), "errors": sli.errors.value}
    for key in ("bad_status", "boundaries"):
        if values := getattr(sli, key):
            found[key] = list(values)
    return found | _where_table(sli.where)


def _where_table(chosen: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, Any]:
    words = {HTTP_ROUTE: "routes", HTTP_METHOD: "methods", JOB_NAME: "job", MESSAGING_DESTINATION: "destination"}
    single = ("job", "destination")
    return {words[attribute]: values[0] if words[attribute] in single else list(values) for attribute, values in chosen}


def _changed(made: object, plain: object, names: Iterable[str]) -> dict[str, Any]:
    """The fields that differ from a default, as a file has them."""
    found = {}
    for name in names:
        value = getattr(made, name)
        if value != getattr(plain, name):
            found[name] = prometheus(value) if name in _LENGTHS else getattr(value, "value", value)
    return found


def _table(table: Table, name: str) -> Table:
    found = table.get(name, {})
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"{name} = {found!r}", "it is not a table", f"Write [{name}] and its keys below.")
    return found


def _known(table: Table, keys: Iterable[str], place: str) -> Table:
    """The table, if it has no key that nobody reads."""
    allowed = tuple(keys)
    for key in table:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(allowed)}."
            raise ConfigurationError(f"{key} in {place}", "there is no such key", hint)
    return table


def _lengths(table: Table, place: str) -> dict[str, Any]:
    """The table with its lengths of time in seconds."""
    return {
        key: seconds(value, f"{key} of {place}") if key in _LENGTHS and isinstance(value, str | int | float) else value
        for key, value in table.items()
    }


def _kinds() -> str:
    return ", ".join(_KINDS)
