"""Explanation of an SLO: its error budget in minutes and events, and when each of its alerts fires and resolves."""

from __future__ import annotations

from dataclasses import dataclass

from connectsoft_obs.ops.slo.burn_rate_windows import (
    HARD_DOWN_FOR,
    HARD_DOWN_RATIO,
    BurnRateWindow,
    burn_rate_windows,
    cap_severity,
    needs_hard_down_alert,
)
from connectsoft_obs.ops.slo.promql import format_number
from connectsoft_obs.ops.slo.rules import is_enabled
from connectsoft_obs.slo.durations import MINUTE, format_prometheus, humanize
from connectsoft_obs.slo.indicators import Events, Freshness, OutageLimit, Ratio
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import JOB_DURATION, REQUEST_DURATION, Severity, prometheus_name


@dataclass(frozen=True, slots=True)
class ExplainRow:
    """The properties of one alert, as text.

    Args:
        severity: severity of the alert.
        windows: long and short window.
        burn_rate: burn rate above which it fires.
        error_ratio: percent of bad events above which it fires.
        detection_time: time from the start of a total outage until it fires.
        reset_time: time from the end of a total outage until it resolves.
        budget_consumed: percent of the error budget that is consumed when it fires.
        min_events: events in the long window below which the minimum number of failures fires it.
    """

    severity: str
    windows: str
    burn_rate: str
    error_ratio: str
    detection_time: str
    reset_time: str
    budget_consumed: str
    min_events: str


HEADER = ExplainRow(
    "severity",
    "windows",
    "burn rate",
    "bad events",
    "detection time",
    "reset time",
    "budget consumed",
    "minimum events",
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """An SLO as sentences, and its alerts as a table."""

    title: str
    sentences: tuple[str, ...]
    rows: tuple[ExplainRow, ...]


def explain(service_slos: ServiceSLOs, slo: SLO) -> Explanation:
    """Explain an SLO and its alerts. Detection and reset times are those of a total outage."""
    title = f"{service_slos.slo_id(slo)}: {describe(slo)} over {humanize(service_slos.period_seconds(slo))}"
    sentences = [slo.description] if slo.description else []
    if isinstance(slo.sli, OutageLimit):
        return Explanation(title, (*sentences, *_explain_outage_limit(service_slos, slo, slo.sli)), ())
    return Explanation(
        title, (*sentences, *_explain_error_budget(service_slos, slo)), tuple(_alert_rows(service_slos, slo))
    )


def describe(slo: SLO) -> str:
    """Describe an SLO in one clause: `99.9 % of requests with route /token succeed`."""
    sli = slo.sli
    if isinstance(sli, OutageLimit):
        allowed = f"at most {sli.allowed} outages" if sli.allowed else "no outage"
        return f"{allowed} longer than {humanize(sli.limit)}"
    percent = f"{slo.objective:g} %"
    if isinstance(sli, Freshness):
        return f"for {percent} of the time {sli.job or sli.timestamp} succeeded within the last {humanize(sli.within)}"
    if isinstance(sli, Ratio):
        return f"{percent} of events are good"
    nouns = {REQUEST_DURATION.name: "requests", JOB_DURATION.name: "runs"}
    noun = nouns.get(sli.instrument, "messages" if sli.instrument.startswith("messaging.") else "events")
    matchers = "".join(
        f" with {prometheus_name(attribute).rpartition('_')[2]} {' or '.join(values)}"
        for attribute, values in sli.matchers
    )
    if sli.threshold is None:
        return f"{percent} of {noun}{matchers} succeed"
    return f"{percent} of {noun}{matchers} take at most {humanize(sli.threshold)}"


def _explain_error_budget(service_slos: ServiceSLOs, slo: SLO) -> list[str]:
    period = service_slos.period_seconds(slo)
    sentences = [
        f"The error budget is {format_number(slo.error_budget * 100)} % of events: "
        f"{humanize(period * float(slo.error_budget))} of a total outage in {humanize(period)}."
    ]
    if slo.traffic is not None:
        events = slo.traffic * period
        sentences.append(
            f"At {slo.traffic:g} events/s, {events * float(slo.error_budget):,.0f} of {events:,.0f} events may be bad."
        )
    if isinstance(slo.sli, Events) and slo.sli.quantile is not None:
        assert slo.sli.threshold is not None
        sentences.append(
            f"It is declared as p{slo.sli.quantile * 100:g} below {humanize(slo.sli.threshold)}, which is equivalent "
            f"to {slo.objective:g} % of events within that time; ratios can be aggregated over weeks, percentiles "
            "cannot."
        )
    return sentences


def _alert_rows(service_slos: ServiceSLOs, slo: SLO) -> list[ExplainRow]:
    windows = burn_rate_windows(service_slos, slo)
    reset_times = _reset_times(service_slos, slo)
    rows = [
        _burn_rate_row(service_slos, slo, window, reset_time)
        for window, reset_time in zip(windows, reset_times, strict=True)
    ]
    rows = [row for row in rows if is_enabled(slo, Severity(row.severity))]
    has_hard_down = needs_hard_down_alert(service_slos, slo) and is_enabled(slo, cap_severity(Severity.SEV1, slo))
    return [_hard_down_row(service_slos, slo, windows[0]), *rows] if has_hard_down else rows


def _hard_down_row(service_slos: ServiceSLOs, slo: SLO, window: BurnRateWindow) -> ExplainRow:
    ratio = float(HARD_DOWN_RATIO)
    detection_time = window.short * ratio + HARD_DOWN_FOR
    return ExplainRow(
        cap_severity(Severity.SEV1, slo).value,
        format_prometheus(window.short),
        "-",
        f"{ratio * 100:g} %",
        humanize(detection_time),
        humanize(window.short * (1 - ratio)),
        _format_percent(detection_time / (service_slos.period_seconds(slo) * float(slo.error_budget))),
        f"{slo.alerting.min_bad_events} failures",
    )


def _reset_times(service_slos: ServiceSLOs, slo: SLO) -> list[float]:
    """Return the reset time of each window after a total outage: that of its short window, or of a more urgent alert."""
    windows, budget = burn_rate_windows(service_slos, slo), slo.error_budget
    hard_down = [windows[0].short * (1 - float(HARD_DOWN_RATIO))] if needs_hard_down_alert(service_slos, slo) else []
    reset_times: list[float] = []
    for window in windows:
        more_urgent = [] if window.severity is Severity.SEV1 else list(hard_down)
        more_urgent += [
            reset_time
            for other, reset_time in zip(windows, reset_times, strict=False)
            if other.severity is not window.severity and other.can_fire(budget)
        ]
        reset_times.append(min(window.reset_time(budget), max(more_urgent, default=float("inf"))))
    return reset_times


def _burn_rate_row(service_slos: ServiceSLOs, slo: SLO, window: BurnRateWindow, reset_time: float) -> ExplainRow:
    budget = slo.error_budget
    detection_time = window.detection_time(budget)
    pages = window.severity in (Severity.SEV1, Severity.SEV2)
    failures = max(1, slo.alerting.min_bad_events) if pages and not isinstance(slo.sli, Freshness) else 1
    return ExplainRow(
        cap_severity(window.severity, slo).value,
        f"{window.name} / {format_prometheus(window.short)}",
        f"{window.factor}",
        f"{format_number(window.threshold(budget) * 100)} %" + ("" if detection_time is not None else " (cannot fire)"),
        "never" if detection_time is None else humanize(detection_time),
        "-" if detection_time is None else humanize(reset_time),
        _format_percent(window.budget_consumed(service_slos.period_seconds(slo))),
        "-" if isinstance(slo.sli, Freshness) else f"{window.min_events(budget, failures):,.0f} events",
    )


def _explain_outage_limit(service_slos: ServiceSLOs, slo: SLO, sli: OutageLimit) -> list[str]:
    sources = {
        True: "no target is up",
        False: "no metrics are pushed",
        None: "no target is up and no metrics are pushed",
    }
    causes = sources[service_slos.scraped]
    resolution = max(service_slos.interval, service_slos.scrape_interval)
    return [
        f"The service counts as down while {causes}, and while {sli.outage_when:.0%} or more of its requests fail.",
        f"{cap_severity(Severity.SEV1, slo).value} alert after {humanize(sli.page_after)} of an outage, which leaves "
        f"{humanize(sli.limit - sli.page_after)} to respond; review alert after an outage longer than "
        f"{humanize(sli.limit)}.",
        f"Outages are measured in steps of {humanize(resolution)}. Start and end of an outage with failing requests "
        f"are detected {humanize(2 * MINUTE * sli.outage_when)} later than those of a missing instance.",
    ]


def _format_percent(ratio: float) -> str:
    return f"{ratio * 100:.2g} %"
