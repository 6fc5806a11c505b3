"""Runbook skeletons in the company's structure: what is known is filled in, what only the team knows is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from connectsoft_obs.ops.slo.explain import HEAD, ExplainRow, describe, explain
from connectsoft_obs.ops.slo.promql import service_selector
from connectsoft_obs.ops.slo.rule_groups import groups
from connectsoft_obs.ops.slo.rules import AlertingRule, dashboard_url
from connectsoft_obs.ops.slo.sli_queries import RateWindow, sli_queries
from connectsoft_obs.slo.durations import humanize
from connectsoft_obs.slo.indicators import Freshness, OutageLimit
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import RESPONSES

_DASHBOARD = "Dashboard <dashboard>: since when, which routes or jobs, which `error.type`?"
_HEALTH = "Health: `curl -s https://HOST/health | jq .entries` says which check is not healthy, and for how long."
_LOGS = """Logs of errors, with their correlation ids:

   ```sh
   az monitor log-analytics query --workspace "$WORKSPACE" --output table --analytics-query '
     AppTraces
     | where AppRoleName == "<service>" and SeverityLevel >= 3 and TimeGenerated > ago(1h)
     | summarize count() by Message, tostring(Properties["error.type"])
     | order by count_ desc | take 20'
   ```
"""
_CHANGED = (
    "What changed: `/info` tells version and start. Where they fit the beginning, roll back first and look later."
)
_SYMPTOMS = (
    ("Events fail, or take too long", r"BudgetBurn\d+[hd]$|HardDown$", (_DASHBOARD, _HEALTH, _LOGS, _CHANGED)),
    (
        "The service is down",
        r"Down$|OutageInProgress$",
        (
            "Instances: `up{<own>}` in Prometheus; none left, or some that do not answer?",
            "Platform: do containers start, are probes red, is there capacity? `/health/startup` tells of start-up tasks.",
            _LOGS,
            _CHANGED,
        ),
    ),
    (
        "Nobody sees the promise",
        r"NoData$|BucketMissing$|CoverageLow$|TelemetryStalled$",
        (
            "Is the service up? `up{<own>}`. If it is not, that is the incident.",
            "Does it still tell? `/metrics` has `connectsoft_slo_events_total` where the service declares its promises.",
            "On the way: `connectsoft_obs_exporter_status`, `connectsoft_obs_dropped_total`, the collector, the scrape.",
            "Does anything in Prometheus match `<own>`? A renamed service needs the new name in its promises.",
        ),
    ),
    (
        "A run did not happen",
        r"RunMissed$",
        (
            "Is the worker alive? `up{<own>}`, and its last line in the logs.",
            "Is an earlier run still going? `connectsoft_job_active`.",
            "Start it by hand once the cause is known; jobs are made to be run again.",
        ),
    ),
    (
        "The budget asks for a review",
        r"BudgetBelow[\d_]+$|BudgetGone$|OutageLimitBreached$",
        (
            "`connectsoft-obs slo report` lists what spent the budget, and when.",
            "Decide with the owner: repair the causes first, or change the promise in its file, where everyone sees it.",
        ),
    ),
)

_CAUSES = {
    "http_availability": (
        "a new version: did errors begin with a deployment?",
        "a dependency that fails or is slow: `/health` names the check",
        "no capacity: saturation on the technical dashboard",
    ),
    "latency": (
        "a slow dependency: where do traces of slow requests spend their time?",
        "saturation: event loop lag, processors, pool sizes",
        "more or larger requests than usual",
    ),
    "success": (
        "input that the job cannot handle: do failures share an `error.type`?",
        "a dependency of the job",
        "runs that never end: running, and not in the count of completed ones",
    ),
    "freshness": ("the job does not run: is it due and missed?", "the job runs and fails", "its worker is gone"),
    "outage_limit": (
        "no instance is ready: readiness checks name the reason",
        "the last deployment or a configuration change",
        "network, DNS or certificate in front of the service",
    ),
    "ratio": ("what the numbers are made of: read both queries below",),
}


def runbooks(promises: ServiceSLOs) -> dict[str, str]:
    """A page for each promise and one for the service, by file name; the names are those that alerts link to."""
    pages = {f"{promises.id(slo).lower()}.md": _page(promises, slo) for slo in promises.slos}
    return {f"{promises.service.lower()}.md": _service(promises), **pages}


def _service(promises: ServiceSLOs) -> str:
    rules = groups(promises)
    about = [alert for group in rules if group.about == promises.service for alert in group.alerts]
    lines = [f"# {promises.service}: runbook", "", *_head(promises), "## Promises", ""]
    lines += [f"- [{promises.id(slo)}]({promises.runbook_of(slo)}): {describe(slo)}" for slo in promises.slos]
    lines += [f"- {promises.id(one)}: kept while {' and '.join(one.all_of)} are" for one in promises.composites]
    lines += ["", "## Common symptoms and checks", "", *_symptoms(promises, about, None)]
    if not about:
        lines += ["Every alert belongs to one of the promises above, which has a page of its own.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _page(promises: ServiceSLOs, slo: SLO) -> str:
    explained = explain(promises, slo)
    alerts = [alert for group in groups(promises) if group.about == promises.id(slo) for alert in group.alerts]
    lines = [f"# {promises.id(slo)}: runbook", "", *_head(promises)]
    lines += ["## What is promised", "", f"{explained.title}.", "", *(f"{text}\n" for text in explained.sentences)]
    lines += [*_table(explained.rows), "### What is measured", "", *_queries(promises, slo)]
    lines += ["## Common symptoms and checks", "", *_symptoms(promises, alerts, slo)]
    lines += ["### Common causes", "", *(f"- {cause}" for cause in _CAUSES[_kind(slo)]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _symptoms(promises: ServiceSLOs, alerts: Sequence[AlertingRule], slo: SLO | None) -> Iterator[str]:
    """Alerts that need the same steps together, under what one sees."""
    left = list(alerts)
    for title, ends, steps in _SYMPTOMS:
        these = [alert for alert in left if re.search(ends, alert.name)]
        if not these:
            continue
        left = [alert for alert in left if alert not in these]
        yield from (f"### {title}", "", "| alert | severity | means |", "| --- | --- | --- |")
        yield from (
            f"| {one.name} | {one.severity}: {RESPONSES[one.severity].text} | {one.annotations['summary']} |"
            for one in these
        )
        yield ""
        link = dashboard_url(promises, promises.id(slo) if slo else "")
        facts = {
            "service": promises.service,
            "own": service_selector(promises),
            "dashboard": f"[{promises.service}]({link})" if link else "_address of the dashboard_",
        }
        yield from (f"{number}. {_filled(step, facts)}" for number, step in enumerate(steps, 1))
        yield ""


def _filled(step: str, facts: dict[str, str]) -> str:
    for name, value in facts.items():
        step = step.replace(f"<{name}>", value)
    return step


def _head(promises: ServiceSLOs) -> Iterator[str]:
    team = promises.team or "_team_"
    yield from ("## System overview", "", f"`{promises.service}` belongs to {team}. Escalate to: _who, how_.", "")
    yield from ("### What it does", "", "_In two sentences: for whom, and what stops when it stops._", "")
    yield from ("### Key components", "", "_Processes, queues, stores; where each runs._", "")
    yield from ("### Dependencies", "", "_What it calls, and what it does when that fails._", "")


def _table(rows: tuple[ExplainRow, ...]) -> Iterator[str]:
    if not rows:
        return
    names = ExplainRow.__dataclass_fields__
    for index, row in enumerate((HEAD, *rows)):
        yield "| " + " | ".join(str(getattr(row, name)) for name in names) + " |"
        if index == 0:
            yield "| " + " | ".join("---" for _ in names) + " |"
    yield ""


def _queries(promises: ServiceSLOs, slo: SLO) -> Iterator[str]:
    measured = sli_queries(promises, slo)
    over = RateWindow("5m")
    if isinstance(slo.sli, OutageLimit):
        yield f"Down counts from {slo.sli.outage_when:.0%} failed requests on; share of failed requests:"
        yield from ("", "```promql", measured.ratio(over), "```", "")
        return
    what = f"Old is more than {humanize(slo.sli.within)}." if isinstance(slo.sli, Freshness) else "Bad over total:"
    yield from (what, "", "```promql", measured.ratio(over), "```", "")


def _kind(slo: SLO) -> str:
    return "latency" if slo.sli.kind == "percentile" else slo.sli.kind
