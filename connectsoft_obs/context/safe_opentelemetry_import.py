"""Imports OpenTelemetry's modules that read environment variables at import, with invalid values hidden from them."""

from __future__ import annotations

from connectsoft_obs.settings import valid_environment

with valid_environment():
    import opentelemetry.sdk.trace  # noqa: F401  used by the tracing signal
    from opentelemetry import propagate as propagate
