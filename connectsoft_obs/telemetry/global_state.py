"""One process has one Telemetry: made here, found here, replaced here while a test captures."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk import trace as sdk

from connectsoft_obs import context
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.internal_telemetry import InternalTelemetry, set_current_getter
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.settings import Settings, load_settings, quote_setting, unknown_variables
from connectsoft_obs.signals import logs
from connectsoft_obs.signals.logs.levels import ERROR, INFO, WARNING, Levels
from connectsoft_obs.signals.metrics import DelegatingMeterProvider, OtelMeterBridge
from connectsoft_obs.signals.tracing import ProxyTracerProvider
from connectsoft_obs.telemetry import auto_instrumentation
from connectsoft_obs.telemetry.telemetry import Telemetry
from connectsoft_obs.vocabulary import SCOPE

Make = Callable[[Settings], Telemetry]
Ready = Callable[[Telemetry], None]


class TelemetryHolder:
    """Holds the Telemetry of a process. Thread-safe.

    Args:
        make: makes one from settings.
        ready: told of each one that was made, when it can be found here.
    """

    def __init__(self, make: Make, ready: Ready | None = None) -> None:
        self.telemetry: Telemetry | None = None
        self._make = make
        self._ready = ready
        self._given: dict[str, Any] = {}
        self._lock = threading.RLock()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """In a forked child: whoever held the lock is not here to let go of it."""
        self._lock = threading.RLock()

    def resolve(self, **arguments: Any) -> Telemetry:
        """The Telemetry there is, or one made with these arguments; before it serves, what they add is added.

        Raises:
            ConfigurationError: an argument that cannot work, or that says something else than the Telemetry there is.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        if not given and (telemetry := self.telemetry) is not None:
            return telemetry  # asked for each measurement and each line; nothing to compare
        with self._lock:
            if self.telemetry is None:
                return self._replace(given)
            added = given.keys() - self._given.keys()
            self._agrees({name: value for name, value in given.items() if name not in added or self.telemetry.serving})
            return self.telemetry if self.telemetry.serving or not added else self._replace({**self._given, **given})

    def configure(self, **arguments: Any) -> Telemetry:
        """Make the Telemetry, in place of the one there is.

        Raises:
            ConfigurationError: a value that cannot work, or another service than the process already reports as.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        with self._lock:
            if self.telemetry is not None and given == self._given:
                return self.telemetry
            if self.telemetry is not None and self._given:
                self._agrees({"service": given["service"]} if "service" in given else {})
            return self._replace(given)

    def _replace(self, given: dict[str, Any]) -> Telemetry:
        settings = load_settings(os.environ, **given)
        made = self._make(settings)
        _tell(made)
        before, self.telemetry, self._given = self.telemetry, made, given
        if before is not None:
            before.hand_over_to(made)
        if self._ready is not None:
            self._ready(made)
        return made

    def _agrees(self, given: dict[str, Any]) -> None:
        assert self.telemetry is not None
        wanted = load_settings(os.environ, **given)
        for name in given:
            there, here = getattr(self.telemetry.settings, name), getattr(wanted, name)
            if there != here:
                raise ConfigurationError(
                    quote_setting(name, here),
                    f"this process already reports with {quote_setting(name, there)}",
                    "Say it in one place, or give the second application its own with telemetry=Telemetry(...).",
                )


def _make(settings: Settings) -> Telemetry:
    _install()
    made = Telemetry(settings)
    if not settings.disabled:
        made.instrumented, made.not_instrumented = auto_instrumentation.instrument_clients(settings.instrumentations)
    return made


def _made(telemetry: Telemetry) -> None:
    _join(telemetry)
    for text in unknown_variables(os.environ):
        telemetry.log(WARNING, text)


def _join(telemetry: Telemetry) -> None:
    """Let all that others say join the stream, and say what that has replaced; doing it again changes nothing."""
    replaced = logs.install_handlers(current_log_pipeline, telemetry.logs.levels).names
    if (ended := logs.take_over_structlog(current_log_pipeline)) is not None:
        replaced.append(ended)
    _uncaught.install()
    if replaced:
        telemetry.log(INFO, "what wrote to the terminal besides us was replaced", {"replaced": ", ".join(replaced)})


_process = TelemetryHolder(_make, _made)
_captures: list[TelemetryHolder] = []
_taken: dict[TelemetryHolder, logs.StdlibTakeover] = {}
_installed = threading.Lock()
_uncaught = logs.ExceptHooks(lambda: current_log_pipeline())


_told_when_made: list[Callable[[Telemetry], None]] = []


def on_configured(tell: Callable[[Telemetry], None]) -> None:
    """Call `tell` with every Telemetry of this process that is made from now on, and with the one there is."""
    _told_when_made.append(tell)
    if (telemetry := current()) is not None:
        _guarded(tell, telemetry)


def _tell(telemetry: Telemetry) -> None:
    for tell in _told_when_made:
        _guarded(tell, telemetry)


def _guarded(tell: Callable[[Telemetry], None], telemetry: Telemetry) -> None:
    try:
        tell(telemetry)
    except Exception as error:  # noqa: BLE001  a part of ours that fails leaves the others whole
        telemetry.internal_telemetry.record_error("telemetry.on_configured", error)


def telemetry_holder() -> TelemetryHolder:
    """The slot in force: the process's, or that of the innermost capture."""
    return _captures[-1] if _captures else _process


def current() -> Telemetry | None:
    """The Telemetry in force, if there is one."""
    return (_captures[-1] if _captures else _process).telemetry


def resolve(**arguments: Any) -> Telemetry:
    """The Telemetry in force, made from the environment and these arguments if there is none yet."""
    return telemetry_holder().resolve(**arguments)


def configure(**arguments: Any) -> Telemetry:
    """Set this process up: identity, metrics, traces, logs, exporters; give back the object that holds them.

    Arguments are the fields of `Settings`; environment variables win over them. Starts no thread and sends nothing:
    that begins when the process serves. Calling it again with the same arguments changes nothing, with others it
    replaces what was set up. Thread-safe.

    Raises:
        ConfigurationError: a value that cannot work, or another service than the process already reports as.
    """
    return telemetry_holder().configure(**arguments)


def current_log_pipeline() -> logs.LogPipeline:
    """Where lines go now."""
    telemetry = (_captures[-1] if _captures else _process).telemetry
    return telemetry.logs if telemetry is not None else _first()


def _first() -> logs.LogPipeline:
    """The stream of a process that has said nothing yet; where its settings cannot work, one with none of them.

    They are refused where the service starts. Here somebody wants to log a line, and that must not raise.
    """
    global _without_settings
    try:
        return resolve().logs
    except ConfigurationError as error:
        if _without_settings is None:
            internal_telemetry = InternalTelemetry()
            _without_settings = logs.LogPipeline(
                Settings(), {}, lambda *_: _uncounted, internal_telemetry, logs.StdoutWriter(internal_telemetry)
            )
            _without_settings.emit(ERROR, str(error), None, SCOPE)
        return _without_settings


def _internal_telemetry() -> InternalTelemetry | None:
    telemetry = current()
    return None if telemetry is None else telemetry.internal_telemetry


set_current_getter(_internal_telemetry)
context.set_sanitizer(lambda facts: current_log_pipeline().clean(facts))


def _uncounted(_: float) -> None:
    """Counts nothing."""


_without_settings: logs.LogPipeline | None = None


def install_log_hooks(telemetry: Telemetry) -> None:
    """The process begins to serve: whatever was set up since `configure()` joins the stream too.

    Servers, and applications that configure `logging` or structlog late, add handlers of their own after us. Does
    nothing for a Telemetry that is not the process's.
    """
    if telemetry is _process.telemetry and not _captures:
        _join(telemetry)


def get_logger(name: str = "", **values: Any) -> logs.Logger:
    """A structured logger: `log.info("order placed", total=99.5)`.

    It has structlog's methods, writes one line through the process's stream, and may be made at import time and used
    from any thread. `values` are on every line of it.
    """
    return logs.Logger(current_log_pipeline, name, values)


def push_capture(capture: TelemetryHolder) -> None:
    """Put a slot in force until it is popped."""
    _install()
    logs.take_over_structlog(current_log_pipeline)
    _captures.append(capture)
    _taken[capture] = logs.install_handlers(current_log_pipeline, Levels(INFO, {}))


def pop_capture(capture: TelemetryHolder) -> None:
    """Take a slot out of force."""
    _captures.remove(capture)
    _taken.pop(capture).undo()


def _in_force() -> Telemetry | None:
    """The Telemetry in force; a capture makes one for whoever asks first, be it a tracer or meter of OpenTelemetry's."""
    telemetry = current()
    if telemetry is None and _captures:
        with suppress(ConfigurationError):  # told where the service starts; a span must not raise
            return resolve()
    return telemetry


def _provider() -> sdk.TracerProvider | None:
    telemetry = _in_force()
    return None if telemetry is None else telemetry.tracing.provider


def _meters() -> OtelMeterBridge | None:
    telemetry = _in_force()
    return None if telemetry is None or telemetry.settings.disabled else telemetry.meters


def _install() -> None:
    """Set what OpenTelemetry has one of for a process; doing it again changes nothing."""
    with _installed:
        context.install()
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(ProxyTracerProvider(_provider))
        if type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider":
            metrics.set_meter_provider(DelegatingMeterProvider(_meters))


@atexit.register
def _at_exit() -> None:
    telemetry = _process.telemetry
    if telemetry is not None:
        telemetry.shutdown()
