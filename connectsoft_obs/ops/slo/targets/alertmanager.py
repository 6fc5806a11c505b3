"""Routes and inhibitions of Alertmanager for the alerts of any number of services."""

from __future__ import annotations

from typing import Any

from connectsoft_obs.ops.slo.targets.yaml import dump
from connectsoft_obs.vocabulary import (
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


def configuration() -> str:
    """A whole configuration whose receivers are empty: fill them in, or take over `routes` and `inhibit_rules`."""
    routes = [
        {
            "matchers": [_is(SLO_LABEL_SEVERITY, severity.value)],
            "receiver": receiver,
            "group_by": [SLO_LABEL_SERVICE, SLO_LABEL_ID],
            "group_wait": wait,
            "group_interval": "1m",
            "repeat_interval": repeat,
        }
        for severity, receiver, wait, repeat in _ROUTES
    ]
    return dump({
        "route": {"receiver": "operations", "routes": routes},
        "inhibit_rules": _inhibitions(),
        "receivers": [{"name": receiver} for _, receiver, _, _ in _ROUTES],
    })  # fmt: skip


def _inhibitions() -> list[dict[str, Any]]:
    """What is urgent silences what is less so about the same promise; a service that is down, all about its promises."""
    urgent = [(Severity.SEV1, "Sev2|Sev3"), (Severity.SEV2, "Sev3")]
    found = [
        {
            "source_matchers": [_is(SLO_LABEL_SEVERITY, severity.value)],
            "target_matchers": [f'{SLO_LABEL_SEVERITY}=~"{others}"'],
            "equal": [SLO_LABEL_ID],
        }
        for severity, others in urgent
    ]
    whole = {
        "source_matchers": [_is(SLO_LABEL_SCOPE, "service")],
        "target_matchers": [_is(SLO_LABEL_SCOPE, ""), f'{SLO_LABEL_SEVERITY}=~"Sev1|Sev2|Sev3"'],
        "equal": [SLO_LABEL_SERVICE],
    }
    return [*found, whole]


def _is(label: str, value: str) -> str:
    return f'{label}="{value}"'
