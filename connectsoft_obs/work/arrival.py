"""What comes along with one run, from whoever asked for it, and what is agreed for all runs of a piece of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from connectsoft_obs.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Terms:
    """What is agreed for all runs of a piece of work.

    Args:
        timeout: seconds after which a run counts as timed out; None for no limit.
        rejects: exceptions that mean the input is at fault, not the work.
    """

    timeout: float | None = None
    rejects: tuple[type[BaseException], ...] = ()

    @classmethod
    def checked(cls, where: str, timeout: float | None, rejects: Any) -> Terms:
        """Terms as a decorator was given them.

        Raises:
            ConfigurationError: a limit that is none, or something to reject that is no class of exceptions.
        """
        kinds = rejects if isinstance(rejects, tuple) else (rejects,)
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(
                f"{where}(timeout={timeout!r})", "a run cannot take no time", "Give a limit in seconds, or none."
            )
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise ConfigurationError(
                f"{where}(rejects={rejects!r})",
                "it names no exceptions",
                "Give an exception class, or a tuple of them.",
            )
        return cls(timeout, kinds)


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
NO_TERMS = Terms()
