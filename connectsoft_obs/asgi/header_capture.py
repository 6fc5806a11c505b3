"""Capture of request and response headers as span attributes. Only listed headers are captured, secrets are redacted.

Follows OpenTelemetry semantic conventions 1.44.0: `http.request.header.<name>` and `http.response.header.<name>`, each
a list of values.
"""

from __future__ import annotations

from collections.abc import Iterable

from connectsoft_obs.redaction import REDACTED, RedactionPolicy

_REDACTED_VALUES = [REDACTED]
_MAX_VALUE_SIZE = 8192


class HeaderCapture:
    """Captures the listed headers. False in a boolean context if none are listed. Immutable and thread-safe.

    Args:
        prefix: prefix of the attribute names.
        names: headers to capture, in any case.
        secrets: additional headers whose values are redacted.
        policy: decides by the name which other headers are redacted.
    """

    def __init__(self, prefix: str, names: Iterable[str], secrets: Iterable[str], policy: RedactionPolicy) -> None:
        secret_names = {name.lower() for name in secrets}
        self._attribute_by_header = {
            name.lower().encode("latin-1"): (
                f"{prefix}{name.lower()}",
                name.lower() in secret_names or policy.is_secret_key(name),
            )
            for name in names
        }

    def __bool__(self) -> bool:
        return bool(self._attribute_by_header)

    def collect(self, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
        """Return the attributes of the headers of one message."""
        attributes: dict[str, list[str]] = {}
        for name, value in headers:
            entry = self._attribute_by_header.get(name.lower())
            if entry is not None:
                attribute, is_secret = entry
                if is_secret:
                    attributes[attribute] = _REDACTED_VALUES
                else:
                    attributes.setdefault(attribute, []).append(value[:_MAX_VALUE_SIZE].decode("latin-1"))
        return attributes
