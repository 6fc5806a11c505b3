"""Runbook skeletons in the company's structure, with placeholders for what only the team knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from connectsoft_obs.ops.slo.explain import HEADER, ExplainRow, describe, explain
from connectsoft_obs.ops.slo.instances import running_instances
from connectsoft_obs.ops.slo.promql import service_selector
from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.ops.slo.rules import AlertingRule, dashboard_url
from connectsoft_obs.ops.slo.sli_queries import RateWindow, sli_queries
from connectsoft_obs.slo.durations import humanize
from connectsoft_obs.slo.indicators import Freshness, OutageLimit
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import SEVERITY_POLICIES

_DASHBOARD = "Dashboard <dashboard>: find the start, the affected routes or jobs, and the values of `error.type`."
_HEALTH = "Health: `curl -s https://HOST/health | jq .entries` lists the checks that are not healthy, and since when."
_LOGS = """Error logs of the last hour, with their correlation IDs:

   ```sh
   # Kubernetes
   kubectl logs -l app.kubernetes.io/name=<service> --since=1h --prefix | grep -E '"severity": ?"(ERROR|FATAL)"'
   # Container Apps and App Service, with Application Insights
   az monitor log-analytics query --workspace "$WORKSPACE" --output table --analytics-query '
     AppTraces
     | where AppRoleName == "<service>" and SeverityLevel >= 3 and TimeGenerated > ago(1h)
     | summarize count() by Message, tostring(Properties["error.type"])
     | order by count_ desc | take 20'
   # virtual machine
   journalctl -u <service> --since -1h -o cat | grep -E '"severity": ?"(ERROR|FATAL)"'
   # Loki
   logcli query --since=1h '{service_name="<service>"} | json | severity=~"ERROR|FATAL"'
   ```
"""
_RECENT_CHANGES = """Recent changes: `/info` has the version and the start time. If a deployment matches the start of the
   symptoms, roll back first and investigate later:

   ```sh
   kubectl rollout undo deployment/<service>                                       # Kubernetes
   az containerapp ingress traffic set -n <service> -g "$GROUP" --revision-weight "$PREVIOUS_REVISION=100"
   az webapp deployment slot swap -n <service> -g "$GROUP" --slot staging --target-slot production
   ln -sfn "$PREVIOUS_RELEASE" current && systemctl restart <service>              # virtual machine
   ```
"""
_SYMPTOMS = (
    ("Events fail or are slow", r"BudgetBurn\d+[hd]$|HardDown$", (_DASHBOARD, _HEALTH, _LOGS, _RECENT_CHANGES)),
    (
        "The service is down",
        r"Down$|OutageInProgress$",
        (
            "Instances: query `<instances>` in Prometheus; each series is a running instance, or pushed by one.",
            "Platform: do containers start, do probes fail, is there enough capacity? `/health/startup` lists the "
            "startup tasks.",
            _LOGS,
            _RECENT_CHANGES,
        ),
    ),
    (
        "The SLO has no data",
        r"NoData$|BucketMissing$|CoverageLow$|TelemetryStalled$",
        (
            "Service: query `<instances>`. If it has no result, the service is down: handle that incident first.",
            _LOGS,
            "Metrics of the service: `/metrics` has `connectsoft_slo_events_total` if the service declares its SLOs.",
            "Pipeline: check `connectsoft_obs_exporter_status` (if it is `refused`, the log line `export refused` names what "
            "to change), `connectsoft_obs_dropped_total`, the collector and the scrape.",
            "Selector: does any series in Prometheus match `<selector>`? Update the declaration if the service was "
            "renamed.",
        ),
    ),
    (
        "Exports are refused",
        r"ExportRefused$",
        (
            "Reason: the log line that begins with `export refused` names the URL, the reason and what to change; "
            "`/health` has the same text in the entry `export-<signal>`.",
            "Usual causes: a token that has expired or been rotated, a certificate, a path, a port, or a proxy.",
            "Dropped telemetry (`connectsoft_obs_dropped_total`) is lost. Logs on standard output are complete.",
        ),
    ),
    (
        "A scheduled run is missing",
        r"RunMissed$",
        (
            "Worker: query `<instances>`, and read its last log lines.",
            "Previous run: `connectsoft_job_active` is above 0 while a run is in progress.",
            "Start the job manually once the cause is known; jobs must be safe to run again.",
        ),
    ),
    (
        "The error budget needs a review",
        r"BudgetBelow[\d_]+$|BudgetGone$|OutageLimitBreached$",
        (
            "`connectsoft-obs slo report` lists what consumed the error budget, and when.",
            "Decide with the owner: fix the causes first, or change the objective in the declaration.",
        ),
    ),
)

_CAUSES = {
    "http_availability": (
        "a new version: did the errors start with a deployment?",
        "a failing or slow dependency: `/health` names the check",
        "insufficient capacity: see saturation on the technical dashboard",
    ),
    "latency": (
        "a slow dependency: see traces of slow requests",
        "saturation: event loop lag, CPU, pool sizes",
        "more or larger requests than usual",
    ),
    "success": (
        "input that the job cannot process: do the failures share an `error.type`?",
        "a failing dependency of the job",
        "runs that do not end: they are active, and not in the number of completed runs",
    ),
    "freshness": ("the job does not run: is a run missed?", "the job fails", "its worker is not running"),
    "outage_limit": (
        "no instance is ready: the readiness checks name the reason",
        "the last deployment or a configuration change",
        "network, DNS or certificate in front of the service",
    ),
    "ratio": ("see both queries of the indicator",),
}


def runbooks(service_slos: ServiceSLOs) -> dict[str, str]:
    """Return a page for the service and one for each SLO, by file name. Alerts link to these names."""
    pages = {f"{service_slos.slo_id(slo).lower()}.md": _slo_page(service_slos, slo) for slo in service_slos.slos}
    return {f"{service_slos.service.lower()}.md": _service_page(service_slos), **pages}


def _service_page(service_slos: ServiceSLOs) -> str:
    alerts = _alerts(service_slos, service_slos.service)
    lines = [f"# {service_slos.service}: runbook", "", *_overview(service_slos), "## SLOs", ""]
    lines += [
        f"- [{service_slos.slo_id(slo)}]({service_slos.runbook_url(slo)}): {describe(slo)}" for slo in service_slos.slos
    ]
    lines += [
        f"- {service_slos.slo_id(composite)}: met while {' and '.join(composite.all_of)} are met"
        for composite in service_slos.composites
    ]
    lines += ["", "## Common symptoms and checks", "", *_symptoms(service_slos, alerts)]
    if not alerts:
        lines += ["All alerts belong to the SLOs above; see their pages.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _slo_page(service_slos: ServiceSLOs, slo: SLO) -> str:
    slo_id = service_slos.slo_id(slo)
    explanation = explain(service_slos, slo)
    causes = _CAUSES["latency" if slo.sli.kind == "percentile" else slo.sli.kind]
    lines = [f"# {slo_id}: runbook", "", *_overview(service_slos)]
    lines += ["## Objective", "", f"{explanation.title}.", "", *(f"{text}\n" for text in explanation.sentences)]
    lines += [*_table(explanation.rows), "### Indicator", "", *_indicator(service_slos, slo)]
    lines += ["## Common symptoms and checks", "", *_symptoms(service_slos, _alerts(service_slos, slo_id), slo_id)]
    lines += ["### Common causes", "", *(f"- {cause}" for cause in causes), ""]
    return "\n".join(lines).rstrip() + "\n"


def _alerts(service_slos: ServiceSLOs, slo_id: str) -> list[AlertingRule]:
    return [alert for group in rule_groups(service_slos) if group.slo_id == slo_id for alert in group.alerts]


def _symptoms(service_slos: ServiceSLOs, alerts: Sequence[AlertingRule], slo_id: str = "") -> Iterator[str]:
    """Yield the alerts and checks, grouped by symptom."""
    remaining = list(alerts)
    link = dashboard_url(service_slos, slo_id)
    placeholders = {
        "service": service_slos.service,
        "selector": service_selector(service_slos),
        "instances": running_instances(service_slos),
        "dashboard": f"[{service_slos.service}]({link})" if link else "_URL of the dashboard_",
    }
    for title, name_pattern, steps in _SYMPTOMS:
        matches = [alert for alert in remaining if re.search(name_pattern, alert.name)]
        if not matches:
            continue
        remaining = [alert for alert in remaining if alert not in matches]
        yield from (f"### {title}", "", "| alert | severity | summary |", "| --- | --- | --- |")
        for alert in matches:
            severity = f"{alert.severity}: {SEVERITY_POLICIES[alert.severity].text}"
            yield f"| {alert.name} | {severity} | {alert.annotations['summary']} |"
        yield ""
        yield from (f"{number}. {_fill(step, placeholders)}" for number, step in enumerate(steps, 1))
        yield ""


def _fill(step: str, placeholders: dict[str, str]) -> str:
    for name, value in placeholders.items():
        step = step.replace(f"<{name}>", value)
    return step


def _overview(service_slos: ServiceSLOs) -> Iterator[str]:
    team = service_slos.team or "_team_"
    yield from ("## System overview", "", f"`{service_slos.service}` is owned by {team}. Escalate to: _who, how_.", "")
    yield from ("### What it does", "", "_In two sentences: who uses it, and what fails without it._", "")
    yield from ("### Key components", "", "_Processes, queues, data stores, and where each runs._", "")
    yield from ("### Dependencies", "", "_What it calls, and how it behaves when a call fails._", "")


def _table(rows: tuple[ExplainRow, ...]) -> Iterator[str]:
    if not rows:
        return
    names = ExplainRow.__dataclass_fields__
    for index, row in enumerate((HEADER, *rows)):
        yield "| " + " | ".join(str(getattr(row, name)) for name in names) + " |"
        if index == 0:
            yield "| " + " | ".join("---" for _ in names) + " |"
    yield ""


def _indicator(service_slos: ServiceSLOs, slo: SLO) -> Iterator[str]:
    query = sli_queries(service_slos, slo).ratio(RateWindow("5m"))
    if isinstance(slo.sli, OutageLimit):
        text = f"The service counts as down from {slo.sli.outage_when:.0%} failed requests. Ratio of failed requests:"
    elif isinstance(slo.sli, Freshness):
        text = f"Ratio of time in which the last success is older than {humanize(slo.sli.within)}:"
    else:
        text = "Ratio of bad events to all events:"
    yield from (text, "", "```promql", query, "```", "")
