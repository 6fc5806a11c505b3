"""Process-wide switch that disables all exports; the pytest plugin turns it off."""

from __future__ import annotations

exports_allowed = True
"""Read when a Telemetry is created. Endpoints that a test passes explicitly are not affected."""
