"""Headers recorded on spans: none unless listed, secrets never in the clear.

Follows OpenTelemetry semantic conventions 1.44.0: `http.request.header.<name>` and `http.response.header.<name>`, each
a list of values.
"""

from __future__ import annotations

from collections.abc import Iterable

from connectsoft_obs.redaction import REDACTED, RedactionPolicy

_REDACTED_VALUES = [REDACTED]


class HeaderCapture:
    """The headers that are listed, by their bytes. Immutable and thread-safe.

    Args:
        prefix: what stands before the name of the attribute.
        names: headers to record, in any case.
        secrets: more headers whose values are replaced.
        policy: decides which other headers are secret by their name.
    """

    def __init__(self, prefix: str, names: Iterable[str], secrets: Iterable[str], policy: RedactionPolicy) -> None:
        listed = {name.lower() for name in secrets}
        self._wanted = {
            name.lower().encode("latin-1"): (
                f"{prefix}{name.lower()}",
                name.lower() in listed or policy.is_secret_key(name),
            )
            for name in names
        }

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def collect(self, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
        """The attributes of one message's headers."""
        found: dict[str, list[str]] = {}
        for name, value in headers:
            wanted = self._wanted.get(name.lower())
            if wanted is not None:
                attribute, secret = wanted
                if secret:
                    found[attribute] = _REDACTED_VALUES
                else:
                    found.setdefault(attribute, []).append(value[:8192].decode("latin-1"))
        return found
