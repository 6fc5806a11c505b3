"""The SLO report: a Markdown page with a summary table and one section for each SLO, and SVG plots for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from connectsoft_obs.ops.slo.burn_rate_windows import burn_rate_windows
from connectsoft_obs.ops.slo.report.budget import BudgetState, format_remaining, format_spent
from connectsoft_obs.ops.slo.report.plot import line_chart
from connectsoft_obs.ops.slo.report.status import SloStatus
from connectsoft_obs.slo.durations import HOUR, humanize
from connectsoft_obs.slo.model import ServiceSLOs

_ADVICE = {
    BudgetState.INCIDENT: "An alert is firing: end the incident first, and deploy nothing else",
    BudgetState.OK: "No action is needed",
    BudgetState.REVIEW: "Review what used, or is using, the error budget",
    BudgetState.FREEZE: "The error budget is used up: put reliability work before new features",
    BudgetState.UNKNOWN: "No data: check the metrics pipeline first",
}
MIN_PLOT_SECONDS = HOUR
_ORANGE, _RED = "#d97706", "#b91c1c"


def render_markdown(service_slos: ServiceSLOs, statuses: Sequence[SloStatus], *, with_plots: bool) -> str:
    """Return the report of one service as Markdown.

    Args:
        service_slos: the service.
        statuses: the status of each of its SLOs.
        with_plots: whether to link to the files of `render_plots`, which must be in the same directory.
    """
    return "\n".join(_page(service_slos, statuses, with_plots)) + "\n"


def render_plots(service_slos: ServiceSLOs, statuses: Sequence[SloStatus]) -> dict[str, str]:
    """Return the SVG plots of the report by file name."""
    plots = {}
    for status in statuses:
        start = plot_start(status)
        review_lines = [(left / 100, _ORANGE, f"review at {left:g} %") for left in service_slos.review_at if left]
        plots[f"{status.id}-budget.svg"] = line_chart(
            f"{status.id}: error budget left",
            [("left", status.remaining_over_time)],
            start,
            status.timestamp,
            thresholds=[*review_lines, (0.0, _RED, "used up")],
            unit="%",
            min_value=0.0,
            max_value=1.0,
        )
        if status.burn_rate_over_time:
            windows = burn_rate_windows(service_slos, service_slos.find(status.id))
            plots[f"{status.id}-burn.svg"] = line_chart(
                f"{status.id}: burn rate over {windows[0].name}",
                [("burn rate", status.burn_rate_over_time)],
                start,
                status.timestamp,
                thresholds=[
                    (float(window.factor), _RED if window.factor > 3 else _ORANGE, f"{window.severity} {window.factor}")
                    for window in windows
                ],
                min_value=0.0,
                max_value=2.0,
            )
    return plots


def _page(service_slos: ServiceSLOs, statuses: Sequence[SloStatus], with_plots: bool) -> Iterator[str]:
    timestamp = max((status.timestamp for status in statuses), default=0.0)
    yield f"# SLOs of {service_slos.service}"
    yield ""
    yield f"As of {_format_time(timestamp)} UTC." + (f" Owner: {service_slos.team}." if service_slos.team else "")
    yield ""
    yield "| SLO | state | error budget left | burn rate | data coverage |"
    yield "| --- | --- | --- | --- | --- |"
    for status in statuses:
        burn_rate = next(iter(status.burn_rates.values()), None)
        yield (
            f"| {status.id}: {status.objective} | {status.state} | {format_remaining(status.remaining)} "
            f"| {'-' if burn_rate is None else _format_rate(burn_rate)} "
            f"| {_format_share(status.coverage)} of {humanize(status.period)} |"
        )
    for status in statuses:
        yield from _section(status, with_plots)


def _section(status: SloStatus, with_plots: bool) -> Iterator[str]:
    yield ""
    yield f"## {status.id}"
    yield ""
    objective = f"{status.objective[:1].upper()}{status.objective[1:]}"
    yield f"Objective: {objective}, over {humanize(status.period)}. [Runbook]({status.runbook})."
    yield ""
    yield f"State: **{status.state}**. {_ADVICE[status.state]}."
    if status.firing:
        yield ""
        yield f"Firing: {', '.join(f'{name} ({severity})' for name, severity in status.firing.items())}."
    if status.coverage is not None and status.coverage < 0.9:
        yield ""
        yield (
            f"The indicator has data for only {_format_share(status.coverage)} of the period. "
            "Time without data counts as error-free, with the traffic of the other time."
        )
    yield ""
    yield from (f"- {fact}" for fact in _facts(status))
    if with_plots:
        yield ""
        yield f"![Error budget left of {status.id}]({status.id}-budget.svg)"
        if status.burn_rate_over_time:
            yield ""
            yield f"![Burn rate of {status.id}]({status.id}-burn.svg)"
    if status.incidents:
        yield ""
        yield from _incident_table(status)
    if status.months:
        yield ""
        yield from _month_table(status)


def _facts(status: SloStatus) -> Iterator[str]:
    if status.breaches is not None or status.downtime is not None:
        yield f"outages longer than the limit: {status.breaches or 0:.0f}; allowed: {status.allowed:.0f}"
        yield f"total outage time: {humanize(status.downtime) if status.downtime else 'none'}"
        longest = max((incident.duration for incident in status.incidents), default=0.0)
        yield f"longest outage: {humanize(longest) if longest else 'none'}"
        return
    if status.good is None or status.bad is None or status.allowed is None:
        return
    unit = status.unit
    yield (
        f"{unit}: {status.good + status.bad:,.0f}; bad: {status.bad:,.0f}; "
        f"bad allowed in {humanize(status.period)}: {status.allowed:,.0f}"
    )
    if status.budget_minutes is not None and status.remaining is not None:
        minutes_left = status.budget_minutes * status.remaining
        yield (
            f"error budget: {status.budget_minutes:,.1f} minutes of total outage; "
            f"left: {minutes_left:,.1f} minutes ({format_remaining(status.remaining)})"
        )
    if status.burn_rates:
        yield "burn rates: " + ", ".join(
            f"{_format_rate(rate)} over {window}" for window, rate in status.burn_rates.items()
        )
    if status.time_to_exhaustion is not None:
        yield f"at the burn rate of the last 6 h, the error budget is used up in {humanize(status.time_to_exhaustion)}"
    elif status.remaining is not None and status.remaining > 0:
        yield "at the burn rate of the last 6 h, the error budget lasts"
    else:
        yield "no error budget is left"


def _incident_table(status: SloStatus) -> Iterator[str]:
    if status.good is None:
        yield "| start (UTC) | duration | of the limit |"
        yield "| --- | --- | --- |"
    else:
        yield f"| start (UTC) | duration | bad {status.unit} | worst 5 min | of the error budget |"
        yield "| --- | --- | --- | --- | --- |"
    for incident in status.incidents:
        prefix = f"| {_format_time(incident.start)} | {humanize(incident.duration)} |"
        if status.good is None:
            yield f"{prefix} {incident.budget_spent * 100:.0f} % |"
        else:
            yield (
                f"{prefix} {incident.bad_events:,.0f} | {incident.peak_error_ratio * 100:.3g} % "
                f"| {format_spent(incident.budget_spent)} |"
            )


def _month_table(status: SloStatus) -> Iterator[str]:
    yield "| month | good | bad | good events | error budget of the month |"
    yield "| --- | --- | --- | --- | --- |"
    for month in status.months:
        total = month.good + month.bad
        good_share = f"{month.good / total * 100:.4g} %" if total else "-"
        budget = "-" if month.budget_spent is None else f"{format_spent(month.budget_spent)} used"
        yield f"| {month.name} | {month.good:,.0f} | {month.bad:,.0f} | {good_share} | {budget} |"


def plot_start(status: SloStatus) -> float:
    """Return the start of the plots: of the compliance period, or of the data if the SLO is younger."""
    points = [*status.remaining_over_time[:1], *status.burn_rate_over_time[:1]]
    first = min((time for time, _ in points), default=status.timestamp)
    return max(status.timestamp - status.period, min(first, status.timestamp - MIN_PLOT_SECONDS))


def _format_rate(burn_rate: float) -> str:
    return f"{burn_rate:.2f}" if burn_rate < 100 else f"{burn_rate:,.0f}"


def _format_time(timestamp: float) -> str:
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M}"


def _format_share(share: float | None) -> str:
    return "unknown" if share is None else f"{share * 100:.1f} %"
