"""Applies the setting `propagate_context_to_threads` to thread pools."""

from __future__ import annotations

from connectsoft_obs.context.executor import propagate_to_thread_pools
from connectsoft_obs.telemetry.global_state import current, on_configured
from connectsoft_obs.telemetry.telemetry import Telemetry


def _is_enabled() -> bool:
    telemetry = current()
    return telemetry is not None and telemetry.settings.propagate_context_to_threads and not telemetry.settings.disabled


def _on_configured(telemetry: Telemetry) -> None:
    if telemetry.settings.propagate_context_to_threads and not telemetry.settings.disabled:
        propagate_to_thread_pools(_is_enabled)


on_configured(_on_configured)
