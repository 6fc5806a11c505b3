"""Recording rules with the names and labels of Sloth, for dashboards that were made for Sloth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from connectsoft_obs.ops.slo.promql import format_number
from connectsoft_obs.ops.slo.recording_rules import ratio_windows
from connectsoft_obs.ops.slo.rules import PROMETHEUS_LIMITS, RecordingRule, RuleContext, RuleGroup
from connectsoft_obs.slo.durations import DAY, format_prometheus
from connectsoft_obs.slo.indicators import OutageLimit
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import SLO_BUDGET, SLO_ERROR_RATIO, SLO_REMAINING

_MODE: Final = "cli-gen-prom"
_SPEC: Final = "prometheus/v1"


def sloth_groups(service_slos: ServiceSLOs) -> tuple[RuleGroup, ...]:
    """Return one rule group for each SLO with an objective. The rules read the series of the other generated rules.

    The recorded series have only labels of Sloth. Other generated rules and dashboards therefore do not select them.
    """
    groups = []
    for slo in service_slos.slos:
        if not isinstance(slo.sli, OutageLimit):
            context = RuleContext(service_slos, slo, PROMETHEUS_LIMITS)
            groups.append(
                RuleGroup(f"sloth-{context.id}".lower(), context.id, context.interval, tuple(_rules(context, slo)))
            )
    return tuple(groups)


def _rules(context: RuleContext, slo: SLO) -> Iterator[RecordingRule]:
    labels = {
        "sloth_id": context.id,
        "sloth_service": context.service_slos.service,
        "sloth_slo": slo.name,
    }
    seconds = context.service_slos.period_seconds(slo)
    period = format_prometheus(seconds)
    for window in (*map(format_prometheus, ratio_windows(context, slo)), period):
        ratio = context.recorded_series(f"{SLO_ERROR_RATIO}{window}")
        yield RecordingRule(f"{SLO_ERROR_RATIO}{window}", f"sum({ratio})", {**labels, "sloth_window": window})
    budget = format_number(slo.error_budget)
    burn_rates = {"current": "5m", "period": period}
    yield RecordingRule("slo:objective:ratio", f"vector({format_number(1 - slo.error_budget)})", labels)
    yield RecordingRule(SLO_BUDGET, f"vector({budget})", labels)
    yield RecordingRule("slo:time_period:days", f"vector({format_number(seconds / DAY)})", labels)
    for name, window in burn_rates.items():
        ratio = context.recorded_series(f"{SLO_ERROR_RATIO}{window}")
        yield RecordingRule(f"slo:{name}_burn_rate:ratio", f"sum({ratio}) / {budget}", labels)
    yield RecordingRule(SLO_REMAINING, f"sum({context.recorded_series(SLO_REMAINING)})", labels)
    info = {"sloth_mode": _MODE, "sloth_spec": _SPEC, "sloth_objective": f"{slo.objective:g}"}
    yield RecordingRule("sloth_slo_info", "vector(1)", {**labels, **info})
