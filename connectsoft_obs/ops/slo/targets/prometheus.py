"""Rules as files of Prometheus and as the PrometheusRule resource of its operator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from connectsoft_obs.ops.slo.rule_groups import groups
from connectsoft_obs.ops.slo.rules import AlertingRule, Group, Rule
from connectsoft_obs.ops.slo.targets.yaml import dump
from connectsoft_obs.slo.durations import prometheus
from connectsoft_obs.slo.model import ServiceSLOs


def rules_file(promises: ServiceSLOs) -> str:
    """A rules file, for `rule_files` of Prometheus, Mimir, Thanos and Cortex."""
    return dump({"groups": as_tables(groups(promises))})


def prometheus_rule(promises: ServiceSLOs) -> str:
    """A `monitoring.coreos.com/v1` PrometheusRule; its labels are what a `ruleSelector` looks for."""
    name = re.sub(r"[^a-z0-9.-]", "-", f"slo-{promises.service}".lower()).strip("-.")
    labels = {"app.kubernetes.io/managed-by": "connectsoft-obs", "app.kubernetes.io/name": promises.service}
    return dump({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": name, "labels": labels | ({"team": promises.team} if promises.team else {})},
        "spec": {"groups": as_tables(groups(promises))},
    })  # fmt: skip


def as_tables(all_groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Groups as Prometheus' file format has them."""
    return [
        {"name": group.name, "interval": prometheus(group.interval), "rules": [_rule(rule) for rule in group.rules]}
        for group in all_groups
    ]


def _rule(rule: Rule) -> dict[str, Any]:
    if not isinstance(rule, AlertingRule):
        return {"record": rule.name, "expr": rule.expression, "labels": dict(rule.labels)}
    return {
        "alert": rule.name,
        "expr": rule.expression,
        **({"for": prometheus(rule.hold)} if rule.hold else {}),
        "labels": dict(rule.labels),
        "annotations": dict(rule.annotations),
    }
