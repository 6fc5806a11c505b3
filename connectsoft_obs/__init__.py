"""Observability for ConnectSoft services: one line gives health endpoints, metrics, logs and traces.

Names are resolved when they are first used (PEP 562), so that importing this package imports nothing heavy.
"""

from __future__ import annotations

from importlib import import_module

from connectsoft_obs._version import __version__ as __version__

TYPE_CHECKING = False  # as type checkers read it; importing `typing` would double the start of `connectsoft-obs probe`

if TYPE_CHECKING:
    from connectsoft_obs import slo
    from connectsoft_obs.asgi import ObservabilityMiddleware
    from connectsoft_obs.context import bind, extract, inject
    from connectsoft_obs.errors import ConfigurationError, ObsError
    from connectsoft_obs.health import liveness_check, on_health_change, readiness_check, startup_task
    from connectsoft_obs.settings import Settings
    from connectsoft_obs.telemetry import (
        Telemetry,
        configure,
        counter,
        draining,
        fail_liveness,
        gauge,
        get_logger,
        histogram,
        liveness_task,
        mark_ready,
        mark_unready,
    )
    from connectsoft_obs.vocabulary import Outcome
    from connectsoft_obs.work import consumer, genai_call, heartbeat, job, operation, producer, skip, worker


_PLACES = {
    "ConfigurationError": "errors",
    "ObsError": "errors",
    "ObservabilityMiddleware": "asgi",
    "Outcome": "vocabulary",
    "Settings": "settings",
    "Telemetry": "telemetry",
    "bind": "context",
    "configure": "telemetry",
    "consumer": "work",
    "counter": "telemetry",
    "draining": "telemetry",
    "extract": "context",
    "gauge": "telemetry",
    "get_logger": "telemetry",
    "heartbeat": "work",
    "histogram": "telemetry",
    "inject": "context",
    "job": "work",
    "liveness_check": "health",
    "fail_liveness": "telemetry",
    "mark_ready": "telemetry",
    "mark_unready": "telemetry",
    "genai_call": "work",
    "on_health_change": "health",
    "operation": "work",
    "producer": "work",
    "readiness_check": "health",
    "skip": "work",
    "startup_task": "health",
    "liveness_task": "telemetry",
    "worker": "work",
}
_MODULES = ("slo",)

__all__ = [
    "ConfigurationError",
    "ObsError",
    "ObservabilityMiddleware",
    "Outcome",
    "Settings",
    "Telemetry",
    "bind",
    "configure",
    "consumer",
    "counter",
    "draining",
    "extract",
    "fail_liveness",
    "gauge",
    "genai_call",
    "get_logger",
    "heartbeat",
    "histogram",
    "inject",
    "job",
    "liveness_check",
    "liveness_task",
    "mark_ready",
    "mark_unready",
    "on_health_change",
    "operation",
    "producer",
    "readiness_check",
    "skip",
    "slo",
    "startup_task",
    "worker",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _PLACES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    if _PLACES[name] != "errors":
        _refuse_sub_interpreters()
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def _refuse_sub_interpreters() -> None:
    """Say clearly what would otherwise be an ImportError of orjson, or half a service: its C code knows one interpreter.

    Raises:
        ConfigurationError: this is not the main interpreter.
    """
    for module in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = import_module(module)
        except ImportError:
            continue
        if _id(interpreters.get_current()) == _id(interpreters.get_main()):
            return
        from connectsoft_obs.errors import ConfigurationError

        raise ConfigurationError(
            "a sub-interpreter",
            "orjson and other C code that is used here keep to the main interpreter of a process",
            "Run the service in the main interpreter, in as many processes as you like.",
        )


def _id(interpreter: object) -> object:
    """Number of an interpreter: 3.13 gives a pair."""
    return interpreter[0] if isinstance(interpreter, tuple) else interpreter


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*globals(), *_PLACES, *_MODULES])
