"""Promises from Python: one function a kind, beside the code that keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict, Unpack

from connectsoft_obs.slo.durations import seconds
from connectsoft_obs.slo.indicators import Errors, Events, Freshness, OutageLimit, Ratio, enum_member, matchers
from connectsoft_obs.slo.model import SLO, Alerting, CompositeSLO
from connectsoft_obs.vocabulary import JOB_DURATION, PROCESS_DURATION


class SloOptions(TypedDict, total=False):
    """What every kind of promise takes: fields of `SLO`, with lengths of time as text or seconds."""

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
    **common: Unpack[SloOptions],
) -> SLO:
    """A percentage of HTTP requests does not fail: `availability("auth", 99.9, routes=["/token"])`.

    Args:
        name: unique in the service.
        objective: percent of requests.
        routes: route templates that count; all by default.
        methods: methods that count; all by default.
        bad_status: status codes or classes that are bad besides every 5xx, such as `429`.
        common: see `Common`.
    """
    sli = Events(where=matchers(routes=routes, methods=methods), bad_status=tuple(bad_status))
    return _slo(name, objective, sli, common)


def latency(
    name: str,
    objective: float,
    *,
    under: str | float,
    routes: Iterable[str] = (),
    methods: Iterable[str] = (),
    errors: str = "apart",
    **common: Unpack[SloOptions],
) -> SLO:
    """A percentage of HTTP requests is answered in time: `latency("fast", 99, under="500ms")`.

    Args:
        name: unique in the service.
        objective: percent of requests.
        under: time from the first byte of the request to the last of the response.
        routes: route templates that count; all by default.
        methods: methods that count; all by default.
        errors: `apart` leaves failed requests to an availability objective, `bad` counts them as too slow.
        common: see `Common`.
    """
    sli = Events(
        where=matchers(routes=routes, methods=methods),
        threshold=seconds(under, f"under of {name!r}"),
        errors=enum_member(Errors, errors, f"errors of {name!r}"),
    )
    return _slo(name, objective, sli, common)


def percentile(
    name: str,
    quantile: float,
    *,
    under: str | float,
    routes: Iterable[str] = (),
    methods: Iterable[str] = (),
    errors: str = "apart",
    **common: Unpack[SloOptions],
) -> SLO:
    """A percentile of HTTP requests stays below a time: `percentile("p95", 0.95, under="500ms")`.

    It is kept as what it means, 95 % of requests in 500 ms, because percentiles cannot be added up over time.

    Args:
        name: unique in the service.
        quantile: `0.95` for p95.
        under: time from the first byte of the request to the last of the response.
        routes: route templates that count; all by default.
        methods: methods that count; all by default.
        errors: `apart` leaves failed requests to an availability objective, `bad` counts them as too slow.
        common: see `Common`.
    """
    sli = Events(
        where=matchers(routes=routes, methods=methods),
        threshold=seconds(under, f"under of {name!r}"),
        errors=enum_member(Errors, errors, f"errors of {name!r}"),
        quantile=quantile,
    )
    return _slo(name, percent(quantile), sli, common)


def job_success_rate(name: str, objective: float, *, job: str = "", **common: Unpack[SloOptions]) -> SLO:
    """A percentage of runs of a job succeeds: `success("runs", 95, job="factory-run")`.

    Args:
        name: unique in the service.
        objective: percent of runs.
        job: the job; all of the service by default.
        common: see `Common`.
    """
    return _slo(name, objective, Events(instrument=JOB_DURATION.name, where=matchers(job=job)), common)


def message_success_rate(
    name: str,
    objective: float,
    *,
    within: str | float,
    destination: str = "",
    errors: str = "bad",
    instrument: str = PROCESS_DURATION.name,
    **common: Unpack[SloOptions],
) -> SLO:
    """A percentage of messages is processed in time: `processed("ingest", 99, within="5s")`.

    Args:
        name: unique in the service.
        objective: percent of messages.
        within: time that processing takes; the wait in the queue is not in it.
        destination: queue or topic; all by default.
        errors: `bad` counts a message that fails as too slow, `apart` leaves it out.
        instrument: the histogram of processing times; another for wait times or for a service that is not ours.
        common: see `Common`.
    """
    sli = Events(
        instrument=instrument,
        where=matchers(destination=destination),
        threshold=seconds(within, f"within of {name!r}"),
        errors=enum_member(Errors, errors, f"errors of {name!r}"),
    )
    return _slo(name, objective, sli, common)


def freshness(
    name: str,
    objective: float,
    *,
    within: str | float,
    job: str = "",
    timestamp: str = "",
    **common: Unpack[SloOptions],
) -> SLO:
    """For a percentage of time a job has last succeeded recently: `freshness("prices", 99, job="sync", within="2h")`.

    Args:
        name: unique in the service.
        objective: percent of time.
        within: how long ago the last success may be.
        job: the job.
        timestamp: instead, the Prometheus name of a gauge that holds a Unix time in seconds.
        common: see `Common`.
    """
    sli = Freshness(within=seconds(within, f"within of {name!r}"), job=job, timestamp=timestamp)
    return _slo(name, objective, sli, common)


def outage(
    name: str,
    *,
    limit: str | float,
    allowed: int = 0,
    page_after: str | float = 120,
    outage_when: float = 0.5,
    **common: Unpack[SloOptions],
) -> SLO:
    """No outage is longer than a limit: `outage("no-outage", limit="5m")`.

    Args:
        name: unique in the service.
        limit: longest outage that keeps the promise.
        allowed: longer ones in a period that the promise allows.
        page_after: how long an outage lasts before somebody is paged.
        outage_when: share of failed requests from which on the service counts as down.
        common: see `Common`.
    """
    sli = OutageLimit(
        limit=seconds(limit, f"limit of {name!r}"),
        allowed=allowed,
        page_after=seconds(page_after, f"page_after of {name!r}"),
        outage_when=outage_when,
    )
    return _slo(name, None, sli, common)


def ratio(name: str, objective: float, *, bad: str, total: str, **common: Unpack[SloOptions]) -> SLO:
    """Bad over total in PromQL, for services and numbers that no other kind fits; `{window}` stands for the range.

    Args:
        name: unique in the service.
        objective: percent of events.
        bad: rate of bad events: `sum(rate(errors_total{job="x"}[{window}]))`.
        total: rate of all events.
        common: see `Common`.
    """
    return _slo(name, objective, Ratio(bad=bad, total=total), common)


def all_of(name: str, *names: str, description: str = "") -> CompositeSLO:
    """A promise that is kept while all the named ones are: `all_of("saas", "availability", "p95")`."""
    return CompositeSLO(name=name, all_of=names, description=description)


def percent(quantile: float) -> float:
    """The objective that a quantile is: 95.0 for 0.95."""
    return round(quantile * 100, 9)


def _slo(name: str, objective: float | None, sli: Events | Freshness | OutageLimit | Ratio, common: SloOptions) -> SLO:
    given = dict(common)
    if (period := common.get("period")) is not None:
        given["period"] = seconds(period, f"period of {name!r}")
    return SLO(name=name, objective=objective, sli=sli, **given)  # type: ignore[arg-type]
