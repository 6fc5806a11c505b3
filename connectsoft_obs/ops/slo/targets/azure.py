"""Rules for Azure Monitor managed service for Prometheus: `prometheusRuleGroups`, as Bicep and as an ARM template.

Follows the resource format of API version 2023-03-01 and the documented limits of the service: 20 rules in a group,
10 labels on a rule, evaluation intervals of at least one minute, and queries over at most 32 days.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.ops.slo.rules import AZURE_LIMITS, AlertingRule, Rule, RuleGroup
from connectsoft_obs.ops.slo.targets import bicep
from connectsoft_obs.slo.durations import format_iso8601
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.vocabulary import SEVERITY_POLICIES, Severity

RESOURCE_TYPE = "Microsoft.AlertsManagement/prometheusRuleGroups"
API_VERSION = "2023-03-01"
_SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
_PARAMETERS = (
    ("azureMonitorWorkspaceId", "string", "Resource ID of the Azure Monitor workspace that holds the metrics."),
    ("location", "string", "Region of the rule groups; must be the region of the workspace."),
    *(
        (f"{severity.lower()}ActionGroupIds", "array", f"Resource IDs of the action groups for {severity} alerts.")
        for severity in Severity
    ),
)
"""Name, type and description of each template parameter."""
_ACTION_VARIABLES = {f"{severity.lower()}Actions": f"{severity.lower()}ActionGroupIds" for severity in Severity}
"""Template variables with the actions of alerts, and the parameter that each is computed from."""


@dataclass(frozen=True, slots=True)
class _References:
    """How a template language refers to the parameters and variables."""

    workspace: str
    location: str
    variable: str
    """Format of a reference to a variable."""


_BICEP = _References("azureMonitorWorkspaceId", "location", "{}")
_ARM = _References(
    "[parameters('azureMonitorWorkspaceId')]",
    "[parameters('location')]",
    "[variables('{}')]",
)


def render_bicep(service_slos: ServiceSLOs) -> str:
    """Return a Bicep module with one resource for each rule group.

    Raises:
        ConfigurationError: a period longer than an Azure Monitor query may cover.
    """
    names = frozenset({_BICEP.workspace, _BICEP.location, *_ACTION_VARIABLES})
    defaults = {
        "location": " = resourceGroup().location",
        **dict.fromkeys(_ACTION_VARIABLES.values(), " = []"),
    }
    lines = []
    for name, kind, description in _PARAMETERS:
        lines += [f"@description({bicep.format_string(description)})", f"param {name} {kind}{defaults.get(name, '')}"]
        lines.append("")
    for variable, parameter in _ACTION_VARIABLES.items():
        lines += [f"var {variable} = [for id in {parameter}: {{", "  actionGroupId: id", "}]", ""]
    for index, group in enumerate(rule_groups(service_slos, AZURE_LIMITS)):
        body = {"name": group.name, "location": _BICEP.location, "properties": _properties(group, _BICEP)}
        lines += [f"resource group{index} '{RESOURCE_TYPE}@{API_VERSION}' = {bicep.format_value(body, names)}", ""]
    return "\n".join(lines)


def render_arm_template(service_slos: ServiceSLOs) -> str:
    """Return an ARM template with one resource for each rule group.

    Raises:
        ConfigurationError: a period longer than an Azure Monitor query may cover.
    """
    parameters: dict[str, Any] = {}
    for name, kind, description in _PARAMETERS:
        default: Any = [] if kind == "array" else {"location": "[resourceGroup().location]"}.get(name)
        parameters[name] = {"type": kind, "metadata": {"description": description}}
        if default is not None:
            parameters[name]["defaultValue"] = default
    variable_copies = [
        {
            "name": variable,
            "count": f"[length(parameters('{parameter}'))]",
            "input": {"actionGroupId": f"[parameters('{parameter}')[copyIndex('{variable}')]]"},
        }
        for variable, parameter in _ACTION_VARIABLES.items()
    ]
    resources = [
        {"type": RESOURCE_TYPE, "apiVersion": API_VERSION, "name": group.name, "location": _ARM.location}
        | {"properties": _properties(group, _ARM, escape=escape_arm_string)}
        for group in rule_groups(service_slos, AZURE_LIMITS)
    ]
    template = {
        "$schema": _SCHEMA,
        "contentVersion": "1.0.0.0",
        "parameters": parameters,
        "variables": {"copy": variable_copies},
        "resources": resources,
    }
    return json.dumps(template, indent=2) + "\n"


def escape_arm_string(text: str) -> str:
    """Return a string that ARM does not evaluate: it takes text with one leading bracket for an expression."""
    return f"[{text}" if text.startswith("[") else text


def _properties(group: RuleGroup, references: _References, escape: Callable[[str], str] = str) -> dict[str, Any]:
    return {
        "description": escape(f"Rules of {group.slo_id}, generated by connectsoft-obs from the SLOs of the service."),
        "enabled": True,
        "interval": format_iso8601(group.interval),
        "scopes": [references.workspace],
        "rules": [_rule(rule, references, escape) for rule in group.rules],
    }


def _rule(rule: Rule, references: _References, escape: Callable[[str], str]) -> dict[str, Any]:
    labels = {key: escape(value) for key, value in rule.labels.items()}
    expression = escape(rule.expression)
    if not isinstance(rule, AlertingRule):
        return {"record": rule.name, "expression": expression, "enabled": True, "labels": labels}
    return {
        "alert": rule.name,
        "expression": expression,
        "for": format_iso8601(rule.for_seconds),
        "enabled": True,
        "severity": SEVERITY_POLICIES[rule.severity].azure,
        "labels": labels,
        "annotations": {key: escape(value) for key, value in rule.annotations.items()},
        "resolveConfiguration": {"autoResolved": True, "timeToResolve": "PT5M"},
        "actions": references.variable.format(f"{rule.severity.lower()}Actions"),
    }
