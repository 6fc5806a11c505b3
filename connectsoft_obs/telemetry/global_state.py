"""The Telemetry of the process: created, resolved and replaced here; a test capture replaces it temporarily."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Unpack

from connectsoft_obs import context
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.internal_telemetry import InternalTelemetry, set_current_getter
from connectsoft_obs.process.exit_hooks import call_at_exit
from connectsoft_obs.settings import Settings, SettingsArguments, variable_warnings
from connectsoft_obs.signals import logs
from connectsoft_obs.signals.logs.levels import DEBUG, ERROR, INFO, WARNING, Levels
from connectsoft_obs.signals.metrics import OtelMeterBridge
from connectsoft_obs.signals.tracing import Provider
from connectsoft_obs.telemetry import auto_instrumentation
from connectsoft_obs.telemetry.holder import TelemetryHolder, add_configured_callback
from connectsoft_obs.telemetry.otel_globals import install_otel_globals, replay_early_measurements
from connectsoft_obs.telemetry.telemetry import Telemetry
from connectsoft_obs.vocabulary import SCOPE


def _create_telemetry(settings: Settings) -> Telemetry:
    _install_otel_globals()
    telemetry = Telemetry(settings)
    if not settings.disabled:
        telemetry.instrumented, telemetry.not_instrumented = auto_instrumentation.instrument_clients(
            settings.instrumentations
        )
    return telemetry


def _on_process_telemetry_created(telemetry: Telemetry) -> None:
    _install_log_hooks(telemetry)
    replay_early_measurements(telemetry.internal_telemetry)
    for text in variable_warnings(os.environ, telemetry.settings):
        telemetry.log(WARNING, text)


def _install_log_hooks(telemetry: Telemetry) -> None:
    """Route stdlib logging, structlog, warnings and uncaught exceptions to the log pipeline. Idempotent."""
    replaced = logs.install_handlers(current_log_pipeline, telemetry.logs.levels).replaced_handlers
    if (description := logs.take_over_structlog(current_log_pipeline)) is not None:
        replaced.append(description)
    _except_hooks.install()
    if replaced:
        # On a developer's terminal it would be the first line of each start, about the handlers of the server.
        level = DEBUG if telemetry.logs.is_console else INFO
        telemetry.log(level, "removed other log handlers that write to the terminal", {"replaced": ", ".join(replaced)})


_process_holder = TelemetryHolder(_create_telemetry, _on_process_telemetry_created)
_captures: list[TelemetryHolder] = []
_capture_takeovers: dict[TelemetryHolder, logs.StdlibTakeover] = {}
_except_hooks = logs.ExceptHooks(lambda: current_log_pipeline())


def on_configured(callback: Callable[[Telemetry], None]) -> None:
    """Call `callback` with the current Telemetry, and with each that is created later."""
    add_configured_callback(callback, current())


def telemetry_holder() -> TelemetryHolder:
    """The holder in use: that of the process, or of the innermost capture."""
    return _captures[-1] if _captures else _process_holder


def current() -> Telemetry | None:
    """The current Telemetry, or None."""
    return (_captures[-1] if _captures else _process_holder).telemetry


def resolve(**arguments: Any) -> Telemetry:
    """The current Telemetry; created from the environment and these arguments if there is none."""
    return telemetry_holder().resolve(**arguments)


def configure(
    *,
    service: str | None = None,
    namespace: str | None = None,
    version: str | None = None,
    environment: str | None = None,
    **settings: Unpack[SettingsArguments],
) -> Telemetry:
    """Configure metrics, traces, logs and exporters of this process; returns the Telemetry that holds them.

    Arguments are the fields of `Settings`; environment variables override them. Starts no thread and sends nothing
    until the process serves. A second call with the same arguments has no effect; with other arguments it replaces the
    configuration. Thread-safe.

    Raises:
        ConfigurationError: an argument is invalid, or names another service than the process already reports as.
    """
    identity = {"service": service, "namespace": namespace, "version": version, "environment": environment}
    return telemetry_holder().configure(**identity, **settings)


def current_log_pipeline() -> logs.LogPipeline:
    """The log pipeline of the current Telemetry."""
    telemetry = (_captures[-1] if _captures else _process_holder).telemetry
    return telemetry.logs if telemetry is not None else _first_log_pipeline()


def _first_log_pipeline() -> logs.LogPipeline:
    """The log pipeline at the first log line; a fallback with default settings if the settings are invalid.

    Invalid settings raise where the service starts. Logging a line must not raise.
    """
    global _fallback_log_pipeline
    try:
        return resolve().logs
    except ConfigurationError as error:
        if _fallback_log_pipeline is None:
            internal_telemetry = InternalTelemetry()
            _fallback_log_pipeline = logs.LogPipeline(
                Settings(), {}, lambda *_: lambda _: None, internal_telemetry, logs.StdoutWriter(internal_telemetry)
            )
            _fallback_log_pipeline.emit(ERROR, str(error), None, SCOPE)
        return _fallback_log_pipeline


def _internal_telemetry() -> InternalTelemetry | None:
    telemetry = current()
    return None if telemetry is None else telemetry.internal_telemetry


set_current_getter(_internal_telemetry)
context.set_sanitizer(lambda attributes: current_log_pipeline().sanitize(attributes))


_fallback_log_pipeline: logs.LogPipeline | None = None


def install_log_hooks(telemetry: Telemetry) -> None:
    """Route log handlers that were added since `configure()` to the log pipeline as well.

    Servers and applications that configure `logging` or structlog late add handlers after `configure()`. Has no effect
    for a Telemetry that is not that of the process.
    """
    if telemetry is _process_holder.telemetry and not _captures:
        _install_log_hooks(telemetry)


def get_logger(name: str = "", **values: Any) -> logs.Logger:
    """Create a structured logger: `log.info("order placed", total=99.5)`.

    It has the methods of a structlog logger and writes to the log pipeline of the process. It can be created at import
    and used from any thread. `values` are fields of each of its lines.
    """
    return logs.Logger(current_log_pipeline, name, values)


def push_capture(capture: TelemetryHolder) -> None:
    """Make a holder current until it is popped."""
    _install_otel_globals()
    logs.take_over_structlog(current_log_pipeline)
    _captures.append(capture)
    _capture_takeovers[capture] = logs.install_handlers(current_log_pipeline, Levels(INFO, {}))


def pop_capture(capture: TelemetryHolder) -> None:
    """Restore the holder that was current before."""
    _captures.remove(capture)
    _capture_takeovers.pop(capture).undo()


def _current_or_captured() -> Telemetry | None:
    """The current Telemetry; inside a capture it is created on first use, also by an OpenTelemetry tracer or meter."""
    telemetry = current()
    if telemetry is None and _captures:
        with suppress(ConfigurationError):  # raised where the service starts; a span must not raise
            return resolve()
    return telemetry


def _current_provider() -> Provider | None:
    telemetry = _current_or_captured()
    return None if telemetry is None else telemetry.tracing.provider


def _current_meters() -> OtelMeterBridge | None:
    telemetry = _current_or_captured()
    return None if telemetry is None or telemetry.settings.disabled else telemetry.meters


def _install_otel_globals() -> None:
    install_otel_globals(_current_provider, _current_meters, _internal_telemetry)


def _shut_down() -> None:
    telemetry = _process_holder.telemetry
    if telemetry is not None:
        telemetry.shutdown()


call_at_exit(_shut_down)
