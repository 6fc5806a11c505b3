"""Checks of SLO declarations: alerts that cannot fire, late pages, missing boundaries and limits of the targets."""

from __future__ import annotations

from collections.abc import Iterator

from connectsoft_obs.ops.findings import Finding, Level
from connectsoft_obs.ops.slo.burn_rate_windows import (
    BurnRateWindow,
    burn_rate_windows,
    needs_hard_down_alert,
    time_to_first_page,
)
from connectsoft_obs.ops.slo.instances import has_instance_series
from connectsoft_obs.ops.slo.plausibility import check_plausibility
from connectsoft_obs.ops.slo.promql import format_number, parse_matchers, service_selector
from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.ops.slo.rules import AZURE_LIMITS, PROMETHEUS_LIMITS, is_enabled
from connectsoft_obs.slo.durations import DAY, MINUTE, format_prometheus, humanize
from connectsoft_obs.slo.indicators import Events, Freshness, OutageLimit
from connectsoft_obs.slo.model import DEFAULT_RUNBOOK_BASE, SLO, ServiceSLOs, Source
from connectsoft_obs.vocabulary import SEVERITY_POLICIES, Severity


def lint(service_slos: ServiceSLOs, *, azure: bool = False) -> tuple[Finding, ...]:
    """Check the SLOs of a service, without access to a server.

    Args:
        service_slos: the SLOs.
        azure: report violations of the limits of Azure Monitor as errors.

    Returns:
        The findings, errors first.
    """
    findings = [*_check_service(service_slos), *check_plausibility(service_slos)]
    for slo in service_slos.slos:
        findings += _check_documentation(service_slos, slo)
        findings += _check_azure_limits(service_slos, slo, azure)
        findings += (
            _check_outage_limit(service_slos, slo, slo.sli)
            if isinstance(slo.sli, OutageLimit)
            else _check_alerts(service_slos, slo)
        )
    levels = list(Level)
    return tuple(sorted(findings, key=lambda finding: levels.index(finding.level)))


def _check_service(service_slos: ServiceSLOs) -> Iterator[Finding]:
    service = service_slos.service
    if parse_matchers(service_selector(service_slos)) is None:
        yield Finding(
            Level.ERROR, "selector", service,
            f"the selector {service_slos.selector!r} is not a list of label matchers",
            'Write for example job="orders-api",cluster="eu".',
        )  # fmt: skip
    if service_slos.scrape_interval * 4 > 5 * MINUTE:
        yield Finding(
            Level.ERROR, "scrape-interval", service,
            f"a 5m window contains only {5 * MINUTE / service_slos.scrape_interval:.1f} scrapes",
            "Scrape at least every 75 s: with four scrapes in a window, one may fail.",
        )  # fmt: skip
    longest = max((service_slos.period_seconds(slo) for slo in service_slos.slos), default=0)
    if service_slos.retention is not None and service_slos.retention < longest:
        yield Finding(
            Level.ERROR, "retention", service,
            f"Prometheus retains data for {format_prometheus(service_slos.retention)}, "
            f"and the longest compliance period is {format_prometheus(longest)}",
            "Increase the retention above the compliance period; otherwise the error budget covers a shorter period.",
        )  # fmt: skip
    if service_slos.retention is None:
        yield Finding(
            Level.NOTE, "retention", service, "Prometheus retention is not configured; the default is 15d",
            f'Set [prometheus] retention = "{format_prometheus(longest + 5 * DAY)}".',
        )  # fmt: skip
    if service_slos.runbook_base == DEFAULT_RUNBOOK_BASE and any(not slo.runbook for slo in service_slos.slos):
        yield Finding(
            Level.NOTE, "runbook", service,
            f"alerts link to runbooks at {DEFAULT_RUNBOOK_BASE}/{service.lower()}-NAME.html",
            "Generate skeletons with `slo runbook`, or set runbook_base.",
        )  # fmt: skip
    yield from _check_instances(service_slos)
    if not service_slos.dashboard_base:
        yield Finding(
            Level.NOTE, "dashboard", service, "alerts have no link to a dashboard",
            'Set the URL of Grafana: [service] dashboard_base = "https://grafana.example".',
        )  # fmt: skip


def _check_instances(service_slos: ServiceSLOs) -> Iterator[Finding]:
    if not has_instance_series(service_slos):
        yield Finding(
            Level.NOTE, "instances", service_slos.service,
            "all indicators are custom PromQL, so no alert reports that the service has no instance",
            "Set scraped or selector in [service] if that should page.",
        )  # fmt: skip
    elif service_slos.scraped is None:
        yield Finding(
            Level.NOTE, "instances", service_slos.service,
            "the declaration does not state whether Prometheus scrapes the service; rules accept `up` as well as pushed series",
            "Set scraped = true, or scraped = false if the service only pushes its metrics.",
        )  # fmt: skip


def _check_documentation(service_slos: ServiceSLOs, slo: SLO) -> Iterator[Finding]:
    slo_id = service_slos.slo_id(slo)
    if not (slo.owner or service_slos.team):
        yield Finding(Level.WARNING, "owner", slo_id, "no owner", 'Set owner, or [service] team = "...".')
    if not slo.description:
        yield Finding(Level.NOTE, "description", slo_id, "no description", "Add a description for its users.")


def _check_alerts(service_slos: ServiceSLOs, slo: SLO) -> Iterator[Finding]:
    slo_id, windows = service_slos.slo_id(slo), burn_rate_windows(service_slos, slo)
    has_hard_down_alert = needs_hard_down_alert(service_slos, slo)
    for window in windows:
        if not window.can_fire(slo.error_budget):
            percent = format_number(window.threshold(slo.error_budget) * 100)
            yield Finding(
                Level.NOTE if has_hard_down_alert else Level.WARNING, "cannot-fire", slo_id,
                f"the {window.name} burn rate alert is not generated: it would need {percent} % bad events "
                f"({window.factor} times the error budget)",
                f"Raise the objective above {100 - 100 / float(window.factor):.2f} %, or keep the hard_down alert.",
            )  # fmt: skip
    response = SEVERITY_POLICIES[Severity.SEV1].seconds
    first_page = time_to_first_page(service_slos, slo)
    is_freshness = isinstance(slo.sli, Freshness)
    pages = is_enabled(slo, Severity.SEV1)
    if pages and not is_freshness and not has_hard_down_alert and (first_page is None or first_page > response / 3):
        page = "never pages" if first_page is None else f"pages after {humanize(first_page)}"
        yield Finding(
            Level.ERROR, "slow-page", slo_id,
            f"a total outage {page}, and the Sev1 response time is {humanize(response)}",
            "Remove alerting.hard_down = false, or raise the objective.",
        )  # fmt: skip
    yield from _check_traffic(slo_id, slo, windows[0])
    if isinstance(slo.sli, Events) and slo.sli.threshold is not None and not slo.sli.effective_boundaries:
        yield Finding(
            Level.WARNING if service_slos.source is Source.METRICS else Level.NOTE, "boundary", slo_id,
            f"cannot verify that {slo.sli.instrument} has a bucket boundary at {format_number(slo.sli.threshold)} s",
            "Set boundaries to the bucket boundaries of the histogram, in seconds.",
        )  # fmt: skip


def _check_traffic(slo_id: str, slo: SLO, window: BurnRateWindow) -> Iterator[Finding]:
    if slo.traffic is None:
        return
    min_bad_events = max(1, slo.alerting.min_bad_events)
    min_events = window.min_events(slo.error_budget, min_bad_events)
    events = slo.traffic * window.long
    if events < min_bad_events:
        yield Finding(
            Level.WARNING, "too-quiet", slo_id,
            f"about {events:.3g} events in {window.name}: alerts cannot page, because they need {min_bad_events} "
            "bad events",
            "Set alerting.wide = true, or lower min_bad_events.",
        )  # fmt: skip
    elif events < min_events:
        failures = f"{min_bad_events} failures page" if min_bad_events > 1 else "a single failure pages"
        yield Finding(
            Level.WARNING if min_bad_events == 1 else Level.NOTE, "few-failures-page", slo_id,
            f"about {events:.3g} events in {window.name}: {failures}",
            f"Burn rates need {min_events:.0f} events to be meaningful; raise min_bad_events, or set "
            "alerting.wide = true.",
        )  # fmt: skip


def _check_outage_limit(service_slos: ServiceSLOs, slo: SLO, sli: OutageLimit) -> Iterator[Finding]:
    slo_id = service_slos.slo_id(slo)
    resolution = max(service_slos.interval, service_slos.scrape_interval)
    if resolution * 8 > sli.limit:
        yield Finding(
            Level.WARNING, "resolution", slo_id,
            f"outages are measured in steps of {humanize(resolution)}, and the limit is {humanize(sli.limit)}",
            "Scrape and evaluate rules at least eight times within the limit.",
        )  # fmt: skip
    if service_slos.scraped is False and sli.limit < 10 * MINUTE:
        yield Finding(
            Level.WARNING, "pushed", slo_id,
            "the service only pushes metrics, so its absence is detected five minutes after the last push",
            "Scrape the service, or probe it from outside, for a limit this short.",
        )  # fmt: skip


def _check_azure_limits(service_slos: ServiceSLOs, slo: SLO, azure: bool) -> Iterator[Finding]:
    slo_id, period = service_slos.slo_id(slo), service_slos.period_seconds(slo)
    if period > AZURE_LIMITS.max_query_range:
        yield Finding(
            Level.ERROR if azure else Level.NOTE, "azure-period", slo_id,
            f"Azure Monitor queries at most 32 days, and the compliance period is {format_prometheus(period)}",
            "Use a period of 28d or 30d for Azure Monitor.",
        )  # fmt: skip
        return
    groups = rule_groups(service_slos, PROMETHEUS_LIMITS)
    labels = max((len(rule.labels) for group in groups for rule in group.rules), default=0)
    if azure and labels > 10:
        yield Finding(
            Level.ERROR, "azure-labels", slo_id,
            f"a rule has {labels} labels, and Azure Monitor allows 10", "Use fewer labels.",
        )  # fmt: skip
