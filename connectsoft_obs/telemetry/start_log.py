"""The log lines of a process that begins to serve: what it exports and instruments, and what is probably a mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from connectsoft_obs.signals.logs.levels import INFO, WARNING
from connectsoft_obs.telemetry.exporters import Exporters
from connectsoft_obs.telemetry.otel_globals import external_providers


class LogFunction(Protocol):
    """Writes a log line."""

    def __call__(self, level: int, message: str, fields: Mapping[str, Any] | None = None, /) -> None:
        """Write a log line with fields."""


def log_start(
    log: LogFunction, exporters: Exporters, instrumented: Sequence[str], not_instrumented: Mapping[str, str]
) -> None:
    """Log the destinations and instrumentations."""
    log(INFO, "observability configured", {"exports": exporters.addresses, "instrumented": instrumented})
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
    log(
        WARNING,
        "the SLOs are declared for another service name; rules that are generated from them do not include this service",
        {
            "declared": declared,
            "reported": service,
            **({"path": slo_file} if slo_file else {}),
            "instead": f"set name = {service!r} in [service], or OTEL_SERVICE_NAME={declared}",
        },
    )
