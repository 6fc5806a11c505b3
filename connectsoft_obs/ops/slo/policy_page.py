"""The error budget policy of a service as a page. Its rule for deployments is computed by the code of `slo gate`."""

from __future__ import annotations

from collections.abc import Iterator

from connectsoft_obs.ops.slo.burn_rate_windows import cap_severity
from connectsoft_obs.ops.slo.explain import describe, explain
from connectsoft_obs.ops.slo.promql import format_number
from connectsoft_obs.ops.slo.report.budget import BudgetStatus, budget_state
from connectsoft_obs.ops.slo.report.gate import evaluate_gate
from connectsoft_obs.ops.slo.rules import is_enabled
from connectsoft_obs.slo.durations import humanize
from connectsoft_obs.slo.indicators import Freshness, OutageLimit
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import SEVERITY_POLICIES, Severity

_STEP = 1e-9
"""Smallest difference between two shares of an error budget, to test both sides of a limit."""


def render_policy(service_slos: ServiceSLOs) -> str:
    """Return the error budget policy of a service as Markdown."""
    return "\n".join(_page(service_slos)).rstrip() + "\n"


def _page(service_slos: ServiceSLOs) -> Iterator[str]:
    team, policy = service_slos.team or "_team_", service_slos.policy
    yield from (f"# {service_slos.service}: error budget policy", "", f"Owner: {team}.", "")
    yield from ("## Objectives", "", "| SLO | objective | period | error budget | owner |")
    yield "| --- | --- | --- | --- | --- |"
    for slo in service_slos.slos:
        period = service_slos.period_seconds(slo)
        cells = (service_slos.slo_id(slo), describe(slo), humanize(period), _budget(slo, period), slo.owner or team)
        yield f"| {' | '.join(cells)} |"
    for composite in service_slos.composites:
        parts = f"met while {' and '.join(composite.all_of)} are met"
        yield f"| {service_slos.slo_id(composite)} | {parts} | | | {team} |"
    yield from ("", "## Alerts", "", "| SLO | severity | windows | burn rate | bad events | budget consumed |")
    yield "| --- | --- | --- | --- | --- | --- |"
    for slo in service_slos.slos:
        yield from _alert_rows(service_slos, slo)
    yield from (
        "",
        "Alerts about missing data and missed runs have these severities too, and stop deployments in the same way.",
    )
    yield from ("", "| severity | response |", "| --- | --- |")
    yield from (f"| {severity} | {response.text} |" for severity, response in SEVERITY_POLICIES.items())
    yield from ("", "## Deployments", "", "`connectsoft-obs slo gate` applies this rule to each SLO:", "")
    yield from ("| condition | state | deployment |", "| --- | --- | --- |", *_gate_rows(service_slos))
    approver = policy.approver or "_role that can permit it_"
    yield from (
        "",
        f"A stopped deployment that repairs the service, or closes a vulnerability, is permitted by {approver}, "
        "in writing, before it starts.",
        "",
        "## Decisions",
        "",
        "| decision | who decides |",
        "| --- | --- |",
        "| start and end of an incident; roll back | operations and the developer on call |",
        f"| reliability work before features while deployments are stopped | {team} |",
        f"| a deployment despite this policy | {approver} |",
        f"| another objective, threshold or policy | the owner of the SLO, by a change of the declaration; {approver} "
        "if `slo diff --exit-code` reports a weaker SLO |",
        "",
        "Each Sev1 incident requires a postmortem: `connectsoft-obs slo postmortem` writes its first version.",
        "",
        "## Review",
        "",
    )
    if service_slos.review_at:
        shares = ", ".join(f"{percent:g} %" for percent in service_slos.review_at)
        yield f"- Of an SLO: when {shares} of its error budget is left; {SEVERITY_POLICIES[Severity.REVIEW].text}."
    last = policy.reviewed or "_date_"
    yield (
        f"- Of this policy: every {humanize(policy.review_every)}. Last review: {last}. "
        f"Next review: {policy.next_review or '_date_'}."
    )


def _budget(slo: SLO, period: int) -> str:
    if isinstance(slo.sli, OutageLimit):
        return f"{slo.sli.allowed} outages longer than {humanize(slo.sli.limit)}"
    unit = "the time" if isinstance(slo.sli, Freshness) else "events"
    return f"{format_number(slo.error_budget * 100)} % of {unit}, {humanize(period * float(slo.error_budget))} of a total outage"


def _alert_rows(service_slos: ServiceSLOs, slo: SLO) -> Iterator[str]:
    if isinstance(slo.sli, OutageLimit):
        severity = cap_severity(Severity.SEV1, slo)
        if is_enabled(slo, severity):
            yield f"| {slo.name} | {severity} | outage of {humanize(slo.sli.page_after)} | | | |"
        return
    for row in explain(service_slos, slo).rows:
        cells = (slo.name, row.severity, row.windows, row.burn_rate, row.error_ratio, row.budget_consumed)
        yield f"| {' | '.join(cells)} |"


def _gate_rows(service_slos: ServiceSLOs) -> Iterator[str]:
    """Yield one row for each condition, with the decision of the gate in an example of it."""
    minimum = service_slos.policy.min_remaining / 100
    for severity in (Severity.SEV1, Severity.SEV2, Severity.SEV3):
        yield _gate_row(service_slos, f"an alert of {severity} fires", 1.0, {"alert": severity})
    yield _gate_row(service_slos, "the error budget is used up", 0.0)
    if minimum:
        yield _gate_row(service_slos, f"{minimum * 100:g} % of the error budget or less is left", minimum)
    limits = sorted({percent / 100 for percent in service_slos.review_at if percent / 100 > minimum}, reverse=True)
    if limits:
        yield _gate_row(service_slos, f"{limits[0] * 100:g} % of the error budget or less is left", limits[0])
    yield _gate_row(service_slos, "more is left", max([minimum, *limits]) + _STEP)
    yield _gate_row(service_slos, "there never was data", None)


def _gate_row(
    service_slos: ServiceSLOs, condition: str, remaining: float | None, firing: dict[str, Severity] | None = None
) -> str:
    state = budget_state(service_slos, remaining, firing)
    budget = BudgetStatus(state, firing or {}, remaining, None, None, None, None)
    decision = "permitted" if evaluate_gate(service_slos, "", budget).passes else "stopped"
    return f"| {condition} | {state} | {decision} |"
