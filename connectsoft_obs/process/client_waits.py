"""Recognizes threads of a worker framework that wait for a broker, a result backend or a store of schedules.

A restart of the process does not repair them, so that such a thread is not a reason to fail liveness.
"""

from __future__ import annotations

import sys
from types import FrameType

FRAMEWORKS = frozenset({"apscheduler", "celery", "huey", "rq"})
"""Top-level packages of frameworks whose main loop calls network clients that block."""

CLIENT_PACKAGES = frozenset(
    {"amqp", "azure", "boto3", "botocore", "confluent_kafka", "google", "grpc", "hiredis", "kazoo", "kombu", "proton",
     "psycopg", "psycopg2", "pymongo", "qpid", "redbeat", "redis", "sqlalchemy", "urllib3", "vine"}
)  # fmt: skip
"""Top-level packages of network clients."""

_TRANSPARENT_MODULES = frozenset({"contextlib", "functools", "http", "selectors", "socket", "ssl"})
"""Modules of the standard library that a client calls, or that call a client."""


def waits_for_client(thread_id: int) -> bool:
    """Whether the innermost call of a thread is in a network client that a framework has called.

    A client that the application has called, for example in a signal handler, does not count.
    """
    frame: FrameType | None = sys._current_frames().get(thread_id)  # noqa: SLF001  documented, despite its name
    is_client_called = False
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in CLIENT_PACKAGES:
            is_client_called = True
        elif package not in _TRANSPARENT_MODULES:
            return is_client_called and package in FRAMEWORKS
        frame = frame.f_back
    return False
