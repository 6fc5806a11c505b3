"""Rules as a Prometheus rules file and as the PrometheusRule resource of the Prometheus operator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.ops.slo.rules import AlertingRule, Rule, RuleGroup
from connectsoft_obs.ops.slo.sloth_series import sloth_groups
from connectsoft_obs.ops.slo.targets.yaml_writer import dump
from connectsoft_obs.slo.durations import format_prometheus
from connectsoft_obs.slo.model import ServiceSLOs


def render_rules_file(service_slos: ServiceSLOs) -> str:
    """Return a rules file, for `rule_files` of Prometheus, Mimir, Thanos and Cortex."""
    return dump({"groups": groups_to_dicts(rule_groups(service_slos))})


def render_sloth_rules_file(service_slos: ServiceSLOs) -> str:
    """Return a rules file that records the series of Sloth from those of the other rules file."""
    return dump({"groups": groups_to_dicts(sloth_groups(service_slos))})


def render_prometheus_rule(service_slos: ServiceSLOs) -> str:
    """Return a `monitoring.coreos.com/v1` PrometheusRule, with labels that a `ruleSelector` can match."""
    name = re.sub(r"[^a-z0-9.-]", "-", f"slo-{service_slos.service}".lower()).strip("-.")
    labels = {"app.kubernetes.io/managed-by": "connectsoft-obs", "app.kubernetes.io/name": service_slos.service}
    return dump({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": name, "labels": labels | ({"team": service_slos.team} if service_slos.team else {})},
        "spec": {"groups": groups_to_dicts(rule_groups(service_slos))},
    })  # fmt: skip


def groups_to_dicts(groups: Sequence[RuleGroup]) -> list[dict[str, Any]]:
    """Return rule groups in the structure of a Prometheus rules file."""
    return [
        {
            "name": group.name,
            "interval": format_prometheus(group.interval),
            "rules": [_rule(rule) for rule in group.rules],
        }
        for group in groups
    ]


def _rule(rule: Rule) -> dict[str, Any]:
    if not isinstance(rule, AlertingRule):
        return {"record": rule.name, "expr": rule.expression, "labels": dict(rule.labels)}
    return {
        "alert": rule.name,
        "expr": rule.expression,
        **({"for": format_prometheus(rule.for_seconds)} if rule.for_seconds else {}),
        "labels": dict(rule.labels),
        "annotations": dict(rule.annotations),
    }
