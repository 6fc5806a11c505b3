"""The postmortem as Markdown: what Prometheus recorded, and sections that the team completes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from connectsoft_obs.ops.slo.explain import describe
from connectsoft_obs.ops.slo.postmortem.impact import SloImpact
from connectsoft_obs.ops.slo.postmortem.timeline import LEAD, TimelineEvent
from connectsoft_obs.ops.slo.report.budget import format_spent
from connectsoft_obs.slo.durations import humanize
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.vocabulary import SEVERITY_POLICIES, Severity

_SECTIONS = (
    ("Summary", "_In three sentences: what users experienced, why, and how it ended._"),
    ("Root causes and trigger", "_Conditions that made the incident possible, and the change or event that began it._"),
    ("Detection", "_Who or what noticed it, and when. What would have been faster?_"),
    ("Response", "_Which actions helped, which did not, and which information was missing._"),
    ("What went well", "- _..._"),
    ("What did not go well", "- _..._"),
)


def render_postmortem(
    service_slos: ServiceSLOs,
    impacts: Sequence[SloImpact],
    timeline: Sequence[TimelineEvent],
    missing: Sequence[tuple[str, str]],
    start: float,
    end: float,
    counted: tuple[float, float],
) -> str:
    """Return the first version of a postmortem.

    Args:
        service_slos: the service.
        impacts: the impact on each of its SLOs.
        timeline: the events in order of time.
        missing: series that Prometheus does not have, and the events that the timeline lacks without them.
        start: Unix time of the start of the incident.
        end: Unix time of its end.
        counted: start and end of the time in which events are counted.
    """
    return "\n".join(_page(service_slos, impacts, timeline, missing, start, end, counted)).rstrip() + "\n"


def incident_severity(impacts: Sequence[SloImpact], timeline: Sequence[TimelineEvent]) -> Severity | None:
    """Return the most urgent severity of the used error budgets and of the alerts that fired; None if there is none."""
    severities = {impact.severity for impact in impacts} | {event.severity for event in timeline}
    return next((severity for severity in Severity if severity in severities), None)


def _page(
    service_slos: ServiceSLOs,
    impacts: Sequence[SloImpact],
    timeline: Sequence[TimelineEvent],
    missing: Sequence[tuple[str, str]],
    start: float,
    end: float,
    counted: tuple[float, float],
) -> Iterator[str]:
    team = service_slos.team or "_team_"
    severity = incident_severity(impacts, timeline)
    ended = datetime.fromtimestamp(end, UTC)
    review = ended + timedelta(seconds=SEVERITY_POLICIES[Severity.REVIEW].seconds)
    yield from (f"# Postmortem: {service_slos.service}, {datetime.fromtimestamp(start, UTC):%Y-%m-%d}", "")
    yield from ("| | |", "| --- | --- |", f"| time | {_time(start)} to {_time(end)} UTC, {humanize(end - start)} |")
    yield f"| severity | {severity or 'below Sev3'} |"
    yield f"| owner of this document | {team}: _name_ |"
    yield from (f"| review | {review:%Y-%m-%d}, with _names_ |", "| status | draft |", "")
    if severity is Severity.SEV1:
        yield "A Sev1 incident requires a postmortem."
    else:
        yield "Only a Sev1 incident requires a postmortem; this one is voluntary."
    yield "This document is blameless: it describes what people knew and did, and what the system made easy or hard."
    yield from ("", "## Impact", "", "| SLO | bad | of all | error budget used | severity of that |")
    yield "| --- | --- | --- | --- | --- |"
    yield from (_impact_row(service_slos, impact) for impact in impacts)
    yield from (
        "",
        f"Events are counted in whole steps of five minutes, from {_time(counted[0])} to {_time(counted[1])}.",
    )
    yield from ("", "Number and kind of the users affected: _..._", "", "## Timeline", "")
    yield f"Times in UTC, from Prometheus, with the deployments of the {humanize(LEAD)} before. Add what people did."
    for series, events in missing:
        yield f"Prometheus has no series {series} of this service in this time, so the timeline has no {events}."
    yield from ("", "| time | event |", "| --- | --- |")
    yield from (f"| {_time(event.timestamp)} | {event.text} |" for event in timeline)
    yield from (f"| {_time(start)} | _first action_ |", "")
    for title, text in _SECTIONS:
        yield from (f"## {title}", "", f"Owner: _name_. Due: {review:%Y-%m-%d}.", "", text, "")
    yield from ("## Actions", "", "| action | kind | owner | due | issue |", "| --- | --- | --- | --- | --- |")
    for kind in ("prevent", "detect sooner", "recover faster"):
        yield f"| _..._ | {kind} | _name_ | _date_ | _link_ |"


def _impact_row(service_slos: ServiceSLOs, impact: SloImpact) -> str:
    spent = "no data" if impact.budget_spent is None else format_spent(impact.budget_spent)
    objective = f"{service_slos.slo_id(impact.slo)}: {describe(impact.slo)}"
    bad, total = f"{impact.bad:,.0f} {impact.unit}", f"{impact.total:,.0f}"
    return f"| {objective} | {bad} | {total} | {spent} | {impact.severity or '-'} |"


def _time(timestamp: float) -> str:
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S}"
