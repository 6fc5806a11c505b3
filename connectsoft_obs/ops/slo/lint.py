"""What a declaration will do that nobody wants: alerts that cannot fire, pages that come late, limits of a target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from connectsoft_obs.ops.slo.burn_rate_windows import BurnRateWindow, first_page, hard_down, pairs
from connectsoft_obs.ops.slo.promql import number, parsed, service_selector
from connectsoft_obs.ops.slo.rule_groups import groups
from connectsoft_obs.ops.slo.rules import AZURE, PROMETHEUS
from connectsoft_obs.slo.durations import DAY, MINUTE, humanize, prometheus
from connectsoft_obs.slo.indicators import Events, Freshness, OutageLimit
from connectsoft_obs.slo.model import RUNBOOKS, SLO, ServiceSLOs, Source
from connectsoft_obs.vocabulary import RESPONSES, Severity


class Level(StrEnum):
    """How bad a finding is: an error cannot work, a warning will surprise, a note is worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Args:
        level: how bad it is.
        code: what kind of thing, for `--ignore`.
        about: the promise or service.
        message: what is so.
        advice: what to do.
    """

    level: Level
    code: str
    about: str
    message: str
    advice: str


def lint(promises: ServiceSLOs, *, azure: bool = False) -> tuple[Finding, ...]:
    """Everything found about a service's promises, the worst first.

    Args:
        promises: what to look at.
        azure: whether rules go to Azure Monitor, whose limits then are errors.
    """
    found = [*_service(promises)]
    for slo in promises.slos:
        found += _owned(promises, slo)
        found += _azure(promises, slo, azure)
        found += _outage(promises, slo) if isinstance(slo.sli, OutageLimit) else _ratio(promises, slo)
    order = list(Level)
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def _service(promises: ServiceSLOs) -> Iterator[Finding]:
    name = promises.service
    if parsed(service_selector(promises)) is None:
        yield Finding(
            Level.ERROR, "selector", name, f"the selector {promises.selector!r} is not a list of label matchers",
            'Write for example job="orders-api",cluster="eu".',
        )  # fmt: skip
    if promises.scrape_interval * 4 > 5 * MINUTE:
        yield Finding(
            Level.ERROR, "scrape-interval", name,
            f"windows of 5m hold only {5 * MINUTE / promises.scrape_interval:.1f} scrapes",
            "Scrape every minute or more often; four in a window is the least that survives one lost scrape.",
        )  # fmt: skip
    longest = max((promises.period_of(slo) for slo in promises.slos), default=0)
    if promises.retention is not None and promises.retention < longest:
        yield Finding(
            Level.ERROR, "retention", name,
            f"Prometheus keeps {prometheus(promises.retention)} and promises hold for {prometheus(longest)}",
            "Keep data for longer than the longest period, or the budget is silently that of a shorter one.",
        )  # fmt: skip
    if promises.retention is None:
        yield Finding(
            Level.NOTE, "retention", name, "nobody said how long Prometheus keeps data; its default is 15d",
            f'Say it: [prometheus] retention = "{prometheus(longest + 5 * DAY)}".',
        )  # fmt: skip
    if promises.runbook_base == RUNBOOKS and any(not slo.runbook for slo in promises.slos):
        yield Finding(
            Level.NOTE,
            "runbook",
            name,
            f"runbooks are expected at {RUNBOOKS}/{name.lower()}-NAME.html",
            "Write the skeletons with `slo runbook`, or set runbook_base.",
        )
    if not promises.dashboard_base:
        yield Finding(
            Level.NOTE, "dashboard", name, "alerts carry no link to a dashboard",
            'Say where Grafana is: [service] dashboard_base = "https://grafana.example".',
        )  # fmt: skip


def _owned(promises: ServiceSLOs, slo: SLO) -> Iterator[Finding]:
    about = promises.id(slo)
    if not (slo.owner or promises.team):
        yield Finding(
            Level.WARNING, "owner", about, "nobody answers for it", 'Name an owner, or [service] team = "...".'
        )
    if not slo.description:
        yield Finding(Level.NOTE, "description", about, "it says in no words what is promised", "Add a description.")


def _ratio(promises: ServiceSLOs, slo: SLO) -> Iterator[Finding]:
    about, quick = promises.id(slo), pairs(promises, slo)[0]
    helped = hard_down(promises, slo)
    for pair in pairs(promises, slo):
        if not pair.can_fire(slo.budget):
            yield Finding(
                Level.NOTE if helped else Level.WARNING, "cannot-fire", about,
                f"{pair.factor} times its budget is {number(pair.threshold(slo.budget) * 100)} % of events: "
                f"no outage can fire the {pair.name} alert, which is left out",
                f"Promise more than {100 - 100 / float(pair.factor):.2f} %, or keep the hard_down rule.",
            )  # fmt: skip
    response = RESPONSES[Severity.SEV1].seconds
    seconds = first_page(promises, slo)
    steady = isinstance(slo.sli, Freshness)
    if not steady and not helped and (seconds is None or seconds > response / 3):
        late = "never pages" if seconds is None else f"pages after {humanize(seconds)}"
        yield Finding(
            Level.ERROR, "slow-page", about,
            f"a total outage {late}, and Sev1 leaves {humanize(response)} for the response",
            "Leave alerting.hard_down out, or promise more.",
        )  # fmt: skip
    yield from _traffic(about, slo, quick)
    if isinstance(slo.sli, Events) and slo.sli.threshold is not None and not slo.sli.edges:
        yield Finding(
            Level.WARNING if promises.source is Source.METRICS else Level.NOTE, "boundary", about,
            f"nobody knows whether {slo.sli.instrument} has a bucket boundary at {number(slo.sli.threshold)} s",
            "List the histogram's boundaries, in seconds.",
        )  # fmt: skip


def _traffic(about: str, slo: SLO, quick: BurnRateWindow) -> Iterator[Finding]:
    least = max(1, slo.alerting.min_bad_events)
    few = quick.min_events(slo.budget, least)
    if slo.traffic is None:
        return
    events = slo.traffic * quick.long
    if events < least:
        yield Finding(
            Level.WARNING, "too-quiet", about,
            f"{events:.3g} events in {quick.name}: even if all of them fail there are not {least} bad ones to page for",
            "Use alerting.wide = true, or a lower min_bad_events.",
        )  # fmt: skip
    elif events < few:
        enough = f"{least} failures are" if least > 1 else "a single failure is"
        yield Finding(
            Level.WARNING if least == 1 else Level.NOTE, "few-failures-page", about,
            f"with {events:.3g} events in {quick.name}, {enough} enough for a page",
            f"It takes {few:.0f} events for burn rates to decide; raise min_bad_events, or use alerting.wide = true.",
        )  # fmt: skip


def _outage(promises: ServiceSLOs, slo: SLO) -> Iterator[Finding]:
    sli = slo.sli
    assert isinstance(sli, OutageLimit)
    about = promises.id(slo)
    seen = max(promises.interval, promises.scrape_interval)
    if seen * 8 > sli.limit:
        yield Finding(
            Level.WARNING, "resolution", about,
            f"an outage is measured to {humanize(seen)}, of a limit of {humanize(sli.limit)}",
            "Scrape and evaluate at least eight times within the limit.",
        )  # fmt: skip
    if not promises.scraped and sli.limit < 10 * MINUTE:
        yield Finding(
            Level.WARNING, "pushed", about, "a service that pushes is missed only five minutes after its last push",
            "Scrape it, or probe it from outside, to keep a limit this short.",
        )  # fmt: skip


def _azure(promises: ServiceSLOs, slo: SLO, azure: bool) -> Iterator[Finding]:
    about = promises.id(slo)
    if promises.period_of(slo) > AZURE.longest_query:
        yield Finding(
            Level.ERROR if azure else Level.NOTE, "azure-period", about,
            f"Azure answers no query over more than 32 days, and it holds for {prometheus(promises.period_of(slo))}",
            "Use 28d or 30d there.",
        )  # fmt: skip
        return
    most = max((len(rule.labels) for group in groups(promises, PROMETHEUS) for rule in group.rules), default=0)
    if azure and most > 10:
        yield Finding(
            Level.ERROR, "azure-labels", about, f"a rule has {most} labels and Azure allows 10", "Use fewer labels."
        )
