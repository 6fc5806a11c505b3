"""The log lines of a process that begins to serve: what it exports and instruments, and what is probably a mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from connectsoft_obs.identity import DEFAULT, TITLE, UNKNOWN_SERVICE, ResourceIdentity
from connectsoft_obs.signals.logs.levels import INFO, WARNING
from connectsoft_obs.telemetry.exporters import Exporters
from connectsoft_obs.telemetry.otel_globals import external_providers


class LogFunction(Protocol):
    """Writes a log line."""

    def __call__(self, level: int, message: str, fields: Mapping[str, Any] | None = None, /) -> None:
        """Write a log line with fields."""


def log_start(
    log: LogFunction,
    exporters: Exporters,
    identity: ResourceIdentity,
    instrumented: Sequence[str],
    not_instrumented: Mapping[str, str],
) -> None:
    """Log the identity, the destinations and the instrumentations, and whether the service has no name."""
    fields = {
        # Value and source in one field, and first: a row on a terminal has no room for all fields.
        "environment": f"{identity.environment} ({identity.environment_source})",
        "service": f"{identity.service} ({identity.service_source})",
        "exports": exporters.addresses,
        "instrumented": instrumented,
    }
    log(INFO, "observability configured", fields)
    if identity.service_source == TITLE:
        log(
            INFO,
            "the service has the name of its application",
            {"service": identity.service, "instead": "set OTEL_SERVICE_NAME, or the argument service="},
        )
    elif identity.service_source == DEFAULT:
        log(
            WARNING,
            "the service has no name, so its telemetry is mixed with that of other services",
            {"reported": identity.service, "instead": "set OTEL_SERVICE_NAME, or the argument service="},
        )
    for signal, provider in external_providers().items():
        log(
            INFO, "using the OpenTelemetry provider that the application has set", {"signal": signal, "class": provider}
        )
    if exporters.warning:
        log(WARNING, exporters.warning)
    for name, problem in not_instrumented.items():
        log(WARNING, f"outgoing calls of {name} are not instrumented", {"reason": problem})


def warn_other_service(log: LogFunction, declared: str | None, service: str, slo_file: str | None) -> None:
    """Warn if the SLOs are declared for another service than that of the process.

    It is no error: the name may come from a variable of the platform, and a service must not stop because of it.
    """
    if declared is None or declared == service:
        return
    name = f"OTEL_SERVICE_NAME={declared}"
    log(
        WARNING,
        "the SLOs are declared for another service name; rules that are generated from them do not include this service",
        {
            "declared": declared,
            "reported": service,
            **({"path": slo_file} if slo_file else {}),
            "instead": f"set {name}"
            if service == UNKNOWN_SERVICE
            else f"set name = {service!r} in [service], or {name}",
        },
    )
