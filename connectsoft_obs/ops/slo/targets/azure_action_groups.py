"""Action groups of Azure Monitor, one for each severity, as Bicep. Receivers are parameters, because they can be secrets."""

from __future__ import annotations

from connectsoft_obs.ops.slo.targets import bicep
from connectsoft_obs.vocabulary import SEVERITY_POLICIES, Severity

RESOURCE_TYPE = "Microsoft.Insights/actionGroups@2023-01-01"


def render_action_groups() -> str:
    """Return a Bicep module with an action group for each severity, and its resource ID as output.

    The outputs have the names of the parameters of the rule groups.
    """
    lines = []
    for severity, policy in SEVERITY_POLICIES.items():
        name = severity.lower()
        receivers = f"Receivers of {severity} alerts, such as {{ emailReceivers: [...], webhookReceivers: [...] }}"
        lines += [f"@description({bicep.format_string(f'{receivers}: {policy.text}.')})", "@secure()"]
        lines += [f"param {name}Receivers object", "", *_resource(severity, name), ""]
        lines += [f"output {name}ActionGroupIds array = [", f"  {name}Group.id", "]", ""]
    return "\n".join(lines)


def _resource(severity: Severity, name: str) -> list[str]:
    return [
        f"resource {name}Group '{RESOURCE_TYPE}' = {{",
        f"  name: {bicep.format_string(f'slo-{severity}')}",
        "  location: 'global'",
        "  properties: union({",
        f"    groupShortName: {bicep.format_string(f'slo-{name}')}",
        "    enabled: true",
        f"  }}, {name}Receivers)",
        "}",
    ]
