"""Constructors of SLOs: one function per type of service level indicator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict, Unpack

from connectsoft_obs.slo.alerting import Alerting
from connectsoft_obs.slo.durations import parse_duration
from connectsoft_obs.slo.indicators import (
    Errors,
    Events,
    Freshness,
    Indicator,
    Matchers,
    OutageLimit,
    Ratio,
    as_tuple,
    enum_member,
    matchers,
)
from connectsoft_obs.slo.model import SLO, CompositeSLO
from connectsoft_obs.vocabulary import JOB_DURATION, PROCESS_DURATION, REQUEST_DURATION


class SloOptions(TypedDict, total=False):
    """Options that every constructor accepts: fields of `SLO`, with durations as text or seconds."""

    description: str
    owner: str
    runbook: str
    period: str | float
    alerting: Alerting
    traffic: float


def availability(
    name: str,
    objective: float,
    *,
    routes: Iterable[str] = (),
    methods: Iterable[str] = (),
    bad_status: Iterable[str] = (),
    **options: Unpack[SloOptions],
) -> SLO:
    """HTTP requests that succeed: `availability("auth", 99.9, routes=["/token"])`.

    Args:
        name: name of the SLO, unique in the service.
        objective: percent of good requests.
        routes: route templates of the requests that count; all by default.
        methods: methods of the requests that count; all by default.
        bad_status: status codes or classes that are bad in addition to every 5xx, such as `429`.
        options: see `SloOptions`.
    """
    sli = Events(matchers=matchers(routes=routes, methods=methods), bad_status=as_tuple(bad_status))
    return _slo(name, objective, sli, options)


def latency(
    name: str,
    objective: float,
    *,
    under: str | float,
    routes: Iterable[str] = (),
    methods: Iterable[str] = (),
    errors: str = "apart",
    **options: Unpack[SloOptions],
) -> SLO:
    """HTTP requests that are answered within a time: `latency("fast", 99, under="500ms")`.

    Args:
        name: name of the SLO, unique in the service.
        objective: percent of good requests.
        under: maximum time from the first byte of the request to the last byte of the response.
        routes: route templates of the requests that count; all by default.
        methods: methods of the requests that count; all by default.
        errors: `apart` ignores failed requests, which an availability SLO counts; `bad` counts them as bad.
        options: see `SloOptions`.
    """
    sli = _threshold_sli(name, "under", under, errors, matchers(routes=routes, methods=methods))
    return _slo(name, objective, sli, options)


def percentile(
    name: str,
    quantile: float,
    *,
    under: str | float,
    routes: Iterable[str] = (),
    methods: Iterable[str] = (),
    errors: str = "apart",
    **options: Unpack[SloOptions],
) -> SLO:
    """A percentile of HTTP request durations: `percentile("p95", 0.95, under="500ms")`.

    Stored as the equivalent latency SLO, 95 % of requests within 500 ms, because percentiles cannot be aggregated over
    time.

    Args:
        name: name of the SLO, unique in the service.
        quantile: `0.95` for p95.
        under: maximum time from the first byte of the request to the last byte of the response.
        routes: route templates of the requests that count; all by default.
        methods: methods of the requests that count; all by default.
        errors: `apart` ignores failed requests, which an availability SLO counts; `bad` counts them as bad.
        options: see `SloOptions`.
    """
    sli = _threshold_sli(name, "under", under, errors, matchers(routes=routes, methods=methods), quantile=quantile)
    return _slo(name, quantile_as_percent(quantile), sli, options)


def job_success_rate(name: str, objective: float, *, job: str = "", **options: Unpack[SloOptions]) -> SLO:
    """Runs of a job that succeed: `job_success_rate("runs", 95, job="factory-run")`.

    Args:
        name: name of the SLO, unique in the service.
        objective: percent of good runs.
        job: name of the job; all jobs of the service by default.
        options: see `SloOptions`.
    """
    return _slo(name, objective, Events(instrument=JOB_DURATION.name, matchers=matchers(job=job)), options)


def message_success_rate(
    name: str,
    objective: float,
    *,
    within: str | float,
    destination: str = "",
    errors: str = "bad",
    instrument: str = PROCESS_DURATION.name,
    **options: Unpack[SloOptions],
) -> SLO:
    """Messages that are processed within a time: `message_success_rate("ingest", 99, within="5s")`.

    Args:
        name: name of the SLO, unique in the service.
        objective: percent of good messages.
        within: maximum processing time; the time in the queue is not included.
        destination: queue or topic of the messages that count; all by default.
        errors: `bad` counts failed messages as bad, `apart` ignores them.
        instrument: histogram of processing times; set it to measure wait times, or a service without this package.
        options: see `SloOptions`.
    """
    sli = _threshold_sli(name, "within", within, errors, matchers(destination=destination), instrument=instrument)
    return _slo(name, objective, sli, options)


def freshness(
    name: str,
    objective: float,
    *,
    within: str | float,
    job: str = "",
    timestamp: str = "",
    **options: Unpack[SloOptions],
) -> SLO:
    """Time in which the last success of a job is recent: `freshness("prices", 99, job="sync", within="2h")`.

    Args:
        name: name of the SLO, unique in the service.
        objective: percent of good time.
        within: maximum age of the last success.
        job: name of the job.
        timestamp: alternatively, the Prometheus name of a gauge that holds a Unix time in seconds.
        options: see `SloOptions`.
    """
    sli = Freshness(within=parse_duration(within, f"within of {name!r}"), job=job, timestamp=timestamp)
    return _slo(name, objective, sli, options)


def outage(
    name: str,
    *,
    limit: str | float,
    allowed: int = 0,
    page_after: str | float = 120,
    outage_when: float = 0.5,
    **options: Unpack[SloOptions],
) -> SLO:
    """No outage is longer than a limit: `outage("no-outage", limit="5m")`.

    Args:
        name: name of the SLO, unique in the service.
        limit: maximum duration of an outage.
        allowed: number of longer outages that the SLO allows in its compliance period.
        page_after: duration of an outage before it pages.
        outage_when: ratio of failed requests at which the service counts as down.
        options: see `SloOptions`.
    """
    sli = OutageLimit(
        limit=parse_duration(limit, f"limit of {name!r}"),
        allowed=allowed,
        page_after=parse_duration(page_after, f"page_after of {name!r}"),
        outage_when=outage_when,
    )
    return _slo(name, None, sli, options)


def ratio(name: str, objective: float, *, bad: str, total: str, **options: Unpack[SloOptions]) -> SLO:
    """Bad over total events in custom PromQL, for indicators that no other type covers.

    Args:
        name: name of the SLO, unique in the service.
        objective: percent of good events.
        bad: rate of bad events, with `{window}` in place of the range: `sum(rate(errors_total{job="x"}[{window}]))`.
        total: rate of all events, likewise.
        options: see `SloOptions`.
    """
    return _slo(name, objective, Ratio(bad=bad, total=total), options)


def all_of(name: str, *names: str, description: str = "") -> CompositeSLO:
    """A composite SLO, met while all of the named SLOs are met: `all_of("saas", "availability", "p95")`."""
    return CompositeSLO(name=name, all_of=names, description=description)


def quantile_as_percent(quantile: float) -> float:
    """Convert a quantile to an objective in percent: 95.0 for 0.95."""
    return round(quantile * 100, 9)


def _threshold_sli(
    name: str,
    parameter: str,
    threshold: str | float,
    errors: str,
    matchers: Matchers,
    *,
    instrument: str = REQUEST_DURATION.name,
    quantile: float | None = None,
) -> Events:
    return Events(
        instrument=instrument,
        matchers=matchers,
        threshold=parse_duration(threshold, f"{parameter} of {name!r}"),
        errors=enum_member(Errors, errors, f"errors of {name!r}"),
        quantile=quantile,
    )


def _slo(name: str, objective: float | None, sli: Indicator, options: SloOptions) -> SLO:
    fields = dict(options)
    if (period := options.get("period")) is not None:
        fields["period"] = parse_duration(period, f"period of {name!r}")
    return SLO(name=name, objective=objective, sli=sli, **fields)  # type: ignore[arg-type]
