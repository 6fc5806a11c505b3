"""What a promise means in minutes and events, and what each of its alerts will do."""

from __future__ import annotations

from dataclasses import dataclass

from connectsoft_obs.ops.slo.burn_rate_windows import (
    HARD_DOWN,
    HARD_DOWN_FOR,
    BurnRateWindow,
    cap_severity,
    hard_down,
    pairs,
)
from connectsoft_obs.ops.slo.promql import number
from connectsoft_obs.slo.durations import MINUTE, humanize, prometheus
from connectsoft_obs.slo.indicators import Events, Freshness, OutageLimit, Ratio
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import Severity, prometheus_name


@dataclass(frozen=True, slots=True)
class ExplainRow:
    """One alert of a promise, in words.

    Args:
        severity: how urgent.
        windows: long and short window.
        rate: burn rate at which it fires.
        share: percent of bad events at which it fires.
        outage: how long after the start of a total outage.
        resolves: how long after its end.
        spent: percent of the budget that is gone by then.
        quiet: events in the long window below which its least number of failures is enough.
    """

    severity: str
    windows: str
    rate: str
    share: str
    outage: str
    resolves: str
    spent: str
    quiet: str


HEAD = ExplainRow(
    "severity", "windows", "burn rate", "bad events", "total outage", "resolves", "budget spent", "decides from"
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A promise in words: sentences, then a table."""

    title: str
    sentences: tuple[str, ...]
    rows: tuple[ExplainRow, ...]


def explain(promises: ServiceSLOs, slo: SLO) -> Explanation:
    """What a promise means and does."""
    title = f"{promises.id(slo)}: {describe(slo)} over {humanize(promises.period_of(slo))}"
    sentences = [slo.description] if slo.description else []
    if isinstance(slo.sli, OutageLimit):
        return Explanation(title, (*sentences, *_outage(promises, slo, slo.sli)), ())
    return Explanation(title, (*sentences, *_budget(promises, slo)), tuple(_rows(promises, slo)))


def describe(slo: SLO) -> str:
    """A promise in one clause: `99.9 % of requests to /token succeed`."""
    sli = slo.sli
    if isinstance(sli, OutageLimit):
        allowed = f"at most {sli.allowed} outages" if sli.allowed else "no outage"
        return f"{allowed} longer than {humanize(sli.limit)}"
    share = f"{slo.objective:g} %"
    if isinstance(sli, Freshness):
        return f"for {share} of the time {sli.job or sli.timestamp} succeeded within the last {humanize(sli.within)}"
    if isinstance(sli, Ratio):
        return f"{share} of events are good"
    nouns = {"http.server.request.duration": "requests", "connectsoft.job.duration": "runs"}
    noun = nouns.get(sli.instrument, "messages" if sli.instrument.startswith("messaging.") else "events")
    chosen = "".join(
        f" with {prometheus_name(attribute).rpartition('_')[2]} {' or '.join(values)}"
        for attribute, values in sli.where
    )
    if sli.threshold is None:
        return f"{share} of {noun}{chosen} succeed"
    return f"{share} of {noun}{chosen} take at most {humanize(sli.threshold)}"


def _budget(promises: ServiceSLOs, slo: SLO) -> list[str]:
    period = promises.period_of(slo)
    found = [
        f"{number(slo.budget * 100)} % may be bad: {humanize(period * float(slo.budget))} of a total outage in "
        f"{humanize(period)}."
    ]
    if slo.traffic is not None:
        events = slo.traffic * period
        found.append(f"At {slo.traffic:g} events/s that is {events * float(slo.budget):,.0f} of {events:,.0f} events.")
    if isinstance(slo.sli, Events) and slo.sli.quantile is not None:
        assert slo.sli.threshold is not None
        found.append(
            f"It was stated as p{slo.sli.quantile * 100:g} below {humanize(slo.sli.threshold)}, which is the same as "
            f"{slo.objective:g} % of events within that time; a share can be added up over weeks, a percentile cannot."
        )
    return found


def _rows(promises: ServiceSLOs, slo: SLO) -> list[ExplainRow]:
    found = []
    if hard_down(promises, slo):
        first = pairs(promises, slo)[0]
        after = first.short * float(HARD_DOWN) + HARD_DOWN_FOR
        found.append(
            ExplainRow(
                cap_severity(Severity.SEV1, slo).value,
                prometheus(first.short),
                "-",
                f"{float(HARD_DOWN) * 100:g} %",
                humanize(after),
                humanize(first.short * (1 - float(HARD_DOWN))),
                _percent(after / (promises.period_of(slo) * float(slo.budget))),
                f"{slo.alerting.min_bad_events} failures",
            ),
        )
    return found + [_row(promises, slo, pair) for pair in pairs(promises, slo)]


def _row(promises: ServiceSLOs, slo: SLO, pair: BurnRateWindow) -> ExplainRow:
    detection = pair.detection(slo.budget)
    pages = pair.severity in (Severity.SEV1, Severity.SEV2)
    failures = max(1, slo.alerting.min_bad_events) if pages and not isinstance(slo.sli, Freshness) else 1
    return ExplainRow(
        cap_severity(pair.severity, slo).value,
        f"{pair.name} / {prometheus(pair.short)}",
        f"{pair.factor}",
        f"{number(pair.threshold(slo.budget) * 100)} %" + ("" if detection is not None else " (cannot fire)"),
        "never" if detection is None else humanize(detection),
        "-" if detection is None else humanize(pair.reset(slo.budget)),
        _percent(pair.consumed(promises.period_of(slo))),
        "-" if isinstance(slo.sli, Freshness) else f"{pair.min_events(slo.budget, failures):,.0f} events",
    )


def _outage(promises: ServiceSLOs, slo: SLO, sli: OutageLimit) -> list[str]:
    causes = "every target is down, no target is left" if promises.scraped else "nothing is pushed any more"
    return [
        f"It counts as down while {causes}, or while {sli.outage_when:.0%} or more of its requests fail.",
        f"{cap_severity(Severity.SEV1, slo).value} after {humanize(sli.page_after)} of an outage, which leaves "
        f"{humanize(sli.limit - sli.page_after)} to act; a review after one longer than {humanize(sli.limit)}.",
        f"Outages are measured to {humanize(max(promises.interval, promises.scrape_interval))}; failing requests are seen "
        f"{humanize(2 * MINUTE * sli.outage_when)} later than a missing instance, and so is their end.",
    ]


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %"
