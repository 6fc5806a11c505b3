"""Holds the Telemetry of a process or of a test capture: creates it, adds arguments to it and replaces it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.identity import DEFAULT
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.settings import Settings, load_settings, quote_setting
from connectsoft_obs.telemetry.telemetry import Telemetry

CreateTelemetry = Callable[[Settings], Telemetry]
OnCreated = Callable[[Telemetry], None]


class TelemetryHolder:
    """Holds the Telemetry of a process. Thread-safe.

    Args:
        create: creates a Telemetry from settings.
        on_created: called with each created Telemetry, after it became current.
    """

    def __init__(self, create: CreateTelemetry, on_created: OnCreated | None = None) -> None:
        self.telemetry: Telemetry | None = None
        self._create = create
        self._on_created = on_created
        self._arguments: dict[str, Any] = {}
        self._application_title = ""
        self._lock = threading.RLock()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """In a forked child: the thread that held the lock does not exist here."""
        self._lock = threading.RLock()

    def resolve(self, **arguments: Any) -> Telemetry:
        """Return the current Telemetry, or create one. Before it serves, new arguments are added to it.

        Raises:
            ConfigurationError: an argument is invalid or conflicts with the current Telemetry.
        """
        passed = {name: value for name, value in arguments.items() if value is not None}
        if not passed and (telemetry := self.telemetry) is not None:
            return telemetry  # fast path for each measurement and log line
        with self._lock:
            if self.telemetry is None:
                return self._replace(passed)
            added = passed.keys() - self._arguments.keys()
            self._check_conflicts(
                {name: value for name, value in passed.items() if name not in added or self.telemetry.serving}
            )
            return (
                self.telemetry if self.telemetry.serving or not added else self._replace({**self._arguments, **passed})
            )

    def configure(self, **arguments: Any) -> Telemetry:
        """Create the Telemetry, and replace the current one.

        Raises:
            ConfigurationError: an argument is invalid, or names another service than the current Telemetry.
        """
        passed = {name: value for name, value in arguments.items() if value is not None}
        with self._lock:
            if self.telemetry is not None and passed == self._arguments:
                return self.telemetry
            if self.telemetry is not None and self._arguments:
                self._check_conflicts({"service": passed["service"]} if "service" in passed else {})
            return self._replace(passed)

    def set_application_title(self, title: str) -> None:
        """Set the title of the application, which names the service if nothing else does. The first title is used.

        The current Telemetry is replaced if it has no name and does not serve yet.
        """
        with self._lock:
            if self._application_title:
                return
            self._application_title = title
            telemetry = self.telemetry
            if telemetry is not None and telemetry.identity.service_source == DEFAULT and not telemetry.serving:
                self._replace(self._arguments)

    def _replace(self, arguments: dict[str, Any]) -> Telemetry:
        settings = load_settings(os.environ, **arguments)
        if self._application_title:
            settings = replace(settings, application_title=self._application_title)
        telemetry = self._create(settings)
        _run_configured_callbacks(telemetry)
        previous = self.telemetry
        if previous is not None and not previous.serving and previous.metrics.worker_group is None:
            telemetry.meters.take_over(previous.meters)  # before others can record into instruments of the new one
        self.telemetry, self._arguments = telemetry, arguments
        if previous is not None:
            previous.hand_over_to(telemetry)
        if self._on_created is not None:
            self._on_created(telemetry)
        return telemetry

    def _check_conflicts(self, arguments: dict[str, Any]) -> None:
        assert self.telemetry is not None
        settings = load_settings(os.environ, **arguments)
        for name in arguments:
            current_value, new_value = getattr(self.telemetry.settings, name), getattr(settings, name)
            if current_value != new_value:
                raise ConfigurationError(
                    quote_setting(name, new_value),
                    f"this process already reports with {quote_setting(name, current_value)}",
                    "Configure it in one place, or pass telemetry=Telemetry(...) to the second application.",
                )


_configured_callbacks: list[Callable[[Telemetry], None]] = []


def add_configured_callback(callback: Callable[[Telemetry], None], telemetry: Telemetry | None) -> None:
    """Call `callback` with each Telemetry that is created later, and with the current one, if there is one."""
    _configured_callbacks.append(callback)
    if telemetry is not None:
        _guarded(callback, telemetry)


def _run_configured_callbacks(telemetry: Telemetry) -> None:
    for callback in _configured_callbacks:
        _guarded(callback, telemetry)


def _guarded(callback: Callable[[Telemetry], None], telemetry: Telemetry) -> None:
    with telemetry.internal_telemetry.guard("telemetry.on_configured"):
        callback(telemetry)
