"""What comes along with one run, from whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext


@dataclass(slots=True)  # a frozen one takes as long to fill in as the message to read
class Arrival:
    """What came along with one run, from whoever asked for it; nobody changes it.

    Args:
        base: what the run's context is made of, a remote parent included; None is what runs now.
        explicit: whether `base` was given by the application, and wins over a span that is current.
        links: spans that it belongs to without being their child.
        root_id: trace id that somebody gave a trace which has no parent span; 0 for none.
        correlation_id: id of the business transaction.
        facts: attributes for its span and all its lines.
        own: attributes for its span alone.
        attempt: which attempt it is, from 1; 0 where nobody counts.
        most: how many attempts there are at most; a failure before the last is a retry.
        count: messages in it.
        waits: for each message whose sender's time is known, the seconds since then.
    """

    base: Context | None = None
    explicit: bool = False
    links: tuple[SpanContext, ...] = ()
    root_id: int = 0
    correlation_id: str | None = None
    facts: dict[str, Any] | None = None
    own: dict[str, Any] | None = None
    attempt: int = 0
    most: int = 0
    count: int = 1
    waits: tuple[float, ...] = ()


ALONE = Arrival()
