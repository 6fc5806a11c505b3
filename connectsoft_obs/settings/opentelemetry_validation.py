"""Validates the environment variables that OpenTelemetry's own packages read, and for which they raise if a value is invalid.

Importing `opentelemetry.propagate` raises for a propagator that is not installed, importing `opentelemetry.sdk.trace`
for a limit that is not a number. Platforms set these variables for services of all languages.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from connectsoft_obs.settings.loader import load_settings

_PROPAGATORS = "OTEL_PROPAGATORS"
_LIMITS = tuple(
    f"OTEL_{name}_LIMIT"
    for name in (
        "ATTRIBUTE_COUNT",
        "ATTRIBUTE_VALUE_LENGTH",
        "EVENT_ATTRIBUTE_COUNT",
        "LINK_ATTRIBUTE_COUNT",
        "SPAN_ATTRIBUTE_COUNT",
        "SPAN_ATTRIBUTE_VALUE_LENGTH",
        "SPAN_EVENT_COUNT",
        "SPAN_LINK_COUNT",
    )
)
_PROVIDERS = {f"OTEL_PYTHON_{name}_PROVIDER": f"opentelemetry_{name.lower()}_provider" for name in ("TRACER", "METER")}
VARIABLES = frozenset({*_LIMITS, *_PROVIDERS})


@contextmanager
def valid_environment() -> Iterator[None]:
    """Hide invalid values from OpenTelemetry inside the block. Usually it changes nothing."""
    replaced: dict[str, tuple[str, str | None]] = {}
    for name, valid in _replacements(os.environ).items():
        replaced[name] = os.environ[name], valid
        _set(name, valid)
    try:
        yield
    finally:
        for name, (original, valid) in replaced.items():
            if os.environ.get(name) == valid:
                _set(name, original)


def invalid_variables(environ: Mapping[str, str]) -> list[str]:
    """One warning for each limit and provider that is ignored."""
    return [
        f"{name}={environ[name]!r} is ignored: {'it is not a number of at least 0' if name in _LIMITS else 'it is not installed'}"
        for name in _replacements(environ)
        if name != _PROPAGATORS and environ[name]
    ]


def _replacements(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Valid values of the variables that are invalid; None removes a variable."""
    result: dict[str, str | None] = {}
    if configured := environ.get(_PROPAGATORS):
        valid = ",".join(load_settings({_PROPAGATORS: configured}).propagators)
        if valid != configured:
            result[_PROPAGATORS] = valid
    for name in _LIMITS:
        if name in environ and not _is_limit(environ[name].strip().lower()):
            result[name] = None
    for name, group in _PROVIDERS.items():
        if name in environ and not _is_installed(group, environ[name]):
            result[name] = None
    return result


def _is_limit(text: str) -> bool:
    return text == "unset" or (text.isascii() and text.isdigit())


def _is_installed(group: str, name: str) -> bool:
    from importlib.metadata import entry_points  # only needed for few services; slow to import

    return bool(entry_points(group=group, name=name))


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
