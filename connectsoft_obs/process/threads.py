"""Threads of ours, where a machine may refuse one: a container has a limit of its processes, and the application takes part."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from connectsoft_obs.internal_telemetry import record_internal_error


def start_thread(name: str, target: Callable[..., object], *arguments: Any) -> threading.Thread | None:
    """Start a daemon thread; None, and accounted for, where there can be none now. Whoever asked may ask again later."""
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        record_internal_error("threads", error)
        return None
    return thread
