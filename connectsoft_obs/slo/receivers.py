"""Alertmanager receivers of a service. A secret is the path of a file on the host of Alertmanager, never a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.vocabulary import Severity

_TYPES: Final = ("pagerduty", "opsgenie", "slack")

_RECEIVER_TABLE: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": [*_TYPES], "writeOnly": True},
        "secret_file": {
            "type": "string",
            "pattern": "^/",
            "description": "the absolute path of a file with the secret",
            "writeOnly": True,
        },
        "channel": {"type": "string", "pattern": "^[^/]*$", "description": "the name of a channel", "writeOnly": True},
    },
    "required": ["type", "secret_file"],
    "additionalProperties": False,
    "description": "a table with type and secret_file",
    "writeOnly": True,
}
RECEIVERS_TABLE: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {severity.lower(): _RECEIVER_TABLE for severity in Severity},
    "required": [],
    "additionalProperties": False,
    "description": "a table for each severity with type and secret_file",
    "writeOnly": True,
}
"""JSON Schema of the table `[receivers]`. Error messages do not show its values: any of them can be a secret in a wrong place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Receiver of the alerts of one severity.

    Args:
        severity: severity of the alerts.
        type: `pagerduty`, `opsgenie` or `slack`.
        secret_file: path of the file with the routing key, the API key or the webhook URL.
        channel: Slack channel.

    Raises:
        ConfigurationError: a value is not valid. The message does not contain it, because it can be a secret.
    """

    severity: Severity
    type: str
    secret_file: str
    channel: str = ""

    def __post_init__(self) -> None:
        """Validate the values."""
        subject = f"{self.severity.lower()} in [receivers]"
        if self.type not in _TYPES:
            raise ConfigurationError(subject, "its type is unknown", f"Use one of {', '.join(_TYPES)}.")
        if not self.secret_file.startswith("/"):
            raise ConfigurationError(
                subject, "secret_file is not an absolute path", "Write the path of a file with the secret."
            )
        if self.channel and self.type != "slack":
            raise ConfigurationError(subject, f"{self.type} has no channel", "Remove channel, or use the type slack.")
