"""Alertmanager routes and inhibition rules. They match labels that the alerts of all services have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectsoft_obs.ops.slo.targets.yaml_writer import dump
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.slo.receivers import Receiver
from connectsoft_obs.vocabulary import (
    SCOPE_DATA,
    SCOPE_SERVICE,
    SLO_LABEL_ID,
    SLO_LABEL_SCOPE,
    SLO_LABEL_SERVICE,
    SLO_LABEL_SEVERITY,
    Severity,
)

_ROUTES = (
    (Severity.SEV1, "page-sev1", "10s", "30m"),
    (Severity.SEV2, "page-sev2", "30s", "1h"),
    (Severity.SEV3, "operations", "5m", "12h"),
    (Severity.REVIEW, "reviews", "5m", "7d"),
)
"""Severity, receiver, `group_wait` and `repeat_interval` of each route."""


def render_configuration(services: Sequence[ServiceSLOs] = ()) -> str:
    """Return a complete configuration file with the receivers of the services, and empty receivers for other alerts.

    Fill in the receivers, or copy `routes` and `inhibit_rules` into an existing configuration.
    """
    routes, receivers = [], []
    for severity, name, group_wait, repeat_interval in _ROUTES:
        times = {
            "group_by": [SLO_LABEL_SERVICE, SLO_LABEL_ID],
            "group_wait": group_wait,
            "group_interval": "1m",
            "repeat_interval": repeat_interval,
        }
        of_severity = _equals(SLO_LABEL_SEVERITY, severity.value)
        for service_slos in services:
            for receiver in service_slos.receivers:
                if receiver.severity is severity:
                    own_name = f"{service_slos.service}-{name}"
                    of_service = _equals(SLO_LABEL_SERVICE, service_slos.service)
                    routes.append({"matchers": [of_service, of_severity], "receiver": own_name, **times})
                    receivers.append({"name": own_name, **_receiver(receiver)})
        routes.append({"matchers": [of_severity], "receiver": name, **times})
        receivers.append({"name": name})
    return dump({
        "route": {"receiver": "operations", "routes": routes},
        "inhibit_rules": _inhibit_rules(),
        "receivers": receivers,
    })  # fmt: skip


def _receiver(receiver: Receiver) -> dict[str, Any]:
    """Return the configuration of a receiver, which reads its secret from a file."""
    if receiver.type == "slack":
        channel = {"channel": receiver.channel} if receiver.channel else {}
        return {"slack_configs": [{"api_url_file": receiver.secret_file, "send_resolved": True, **channel}]}
    key = "routing_key_file" if receiver.type == "pagerduty" else "api_key_file"
    return {f"{receiver.type}_configs": [{key: receiver.secret_file}]}


def _inhibit_rules() -> list[dict[str, Any]]:
    """Return rules that mute less urgent alerts on the same objective, and alerts about missing data of a service that is down.

    No alert about missing data mutes an alert on an objective: the data can be missing for another reason.
    """
    inhibited_severities = [(Severity.SEV1, "Sev2|Sev3"), (Severity.SEV2, "Sev3")]
    same_slo = [
        {
            "source_matchers": [_equals(SLO_LABEL_SEVERITY, severity.value), _equals(SLO_LABEL_SCOPE, "")],
            "target_matchers": [f'{SLO_LABEL_SEVERITY}=~"{inhibited}"'],
            "equal": [SLO_LABEL_ID],
        }
        for severity, inhibited in inhibited_severities
    ]
    service_down = {
        "source_matchers": [_equals(SLO_LABEL_SCOPE, SCOPE_SERVICE)],
        "target_matchers": [_equals(SLO_LABEL_SCOPE, SCOPE_DATA), f'{SLO_LABEL_SEVERITY}=~"Sev1|Sev2|Sev3"'],
        "equal": [SLO_LABEL_SERVICE],
    }
    return [*same_slo, service_down]


def _equals(label: str, value: str) -> str:
    return f'{label}="{value}"'
