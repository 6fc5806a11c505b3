"""Alertmanager receivers of a service. A secret is the path of a file on the host of Alertmanager, never a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from connectsoft_obs.vocabulary import Severity

_RECEIVER_TABLE: Final = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": ["pagerduty", "opsgenie", "slack"]},
        "secret_file": {
            "type": "string",
            "pattern": "^/",
            "description": "the absolute path of a file with the secret",
            "writeOnly": True,
        },
        "channel": {"type": "string"},
    },
    "required": ["type", "secret_file"],
    "additionalProperties": False,
    "description": "a table with type and secret_file",
}
RECEIVERS_TABLE: Final = {
    "type": "object",
    "properties": {severity.lower(): _RECEIVER_TABLE for severity in Severity},
    "required": [],
    "additionalProperties": False,
}
"""JSON Schema of the table `[receivers]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Receiver of the alerts of one severity.

    Args:
        severity: severity of the alerts.
        type: `pagerduty`, `opsgenie` or `slack`.
        secret_file: path of the file with the routing key, the API key or the webhook URL.
        channel: Slack channel.
    """

    severity: Severity
    type: str
    secret_file: str
    channel: str = ""
