"""Whether this process may send anything at all; a test run says no."""

from __future__ import annotations

allowed = True
"""Read when a Telemetry is made; what an operator or a test explicitly asks for is not affected."""
