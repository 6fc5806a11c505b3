"""Health endpoints, metrics, logs and traces for ASGI services and background workers.

Names are imported when they are first used (PEP 562): importing the package imports no framework and starts nothing.
"""

from __future__ import annotations

from importlib import import_module

from connectsoft_obs._version import __version__ as __version__
from connectsoft_obs.process import lazy_import_lock

TYPE_CHECKING = (
    False  # type checkers treat it as True; importing `typing` would double the start-up of `connectsoft-obs probe`
)

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
    from connectsoft_obs.work import (
        consumer,
        genai_call,
        heartbeat,
        job,
        operation,
        producer,
        skip,
        span,
        traced,
        worker,
    )


_MODULE_BY_NAME = {
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
    "span": "work",
    "startup_task": "health",
    "liveness_task": "telemetry",
    "traced": "work",
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
    "span",
    "startup_task",
    "traced",
    "worker",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562).

    Raises:
        AttributeError: there is no such name.
        ConfigurationError: this is a sub-interpreter.
    """
    if name not in _MODULE_BY_NAME and name not in _MODULES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    with lazy_import_lock.import_guard():  # a fork during the import would leave the module locked in the child
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if _MODULE_BY_NAME[name] != "errors":
            _require_main_interpreter()
        value = getattr(import_module(f"{__name__}.{_MODULE_BY_NAME[name]}"), name)
    globals()[name] = value
    return value


def _require_main_interpreter() -> None:
    """Raise a clear error instead of the ImportError of orjson, whose C code supports only the main interpreter."""
    from connectsoft_obs.process.interpreters import is_main_interpreter

    if not is_main_interpreter():
        from connectsoft_obs.errors import ConfigurationError

        raise ConfigurationError(
            "a sub-interpreter",
            "orjson and other C extensions that connectsoft_obs uses support only the main interpreter of a process",
            "Run the service in the main interpreter; use several processes for parallelism.",
        )


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*globals(), *_MODULE_BY_NAME, *_MODULES])
