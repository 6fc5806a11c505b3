"""The one line for messages: `@obs.consumer` observes the processing of each message, or of each batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.telemetry import Telemetry, current
from connectsoft_obs.work import inbound
from connectsoft_obs.work.inbound import NO_INBOUND, InboundContext
from connectsoft_obs.work.message import Accessor, read
from connectsoft_obs.work.message_recorder import MessageRecorder, message_recorder
from connectsoft_obs.work.options import RunOptions, resolve_name, validate_name
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.worker_process import use_running_loop
from connectsoft_obs.work.wrappers import wrap

F = TypeVar("F", bound=Callable[..., Any])


def consumer(
    destination: str,
    *,
    system: str,
    headers: Accessor | None = None,
    sent: Accessor | None = None,
    message: str | None = None,
    timeout: float | None = None,
    rejects: type[BaseException] | tuple[type[BaseException], ...] = (),
    telemetry: Telemetry | None = None,
) -> Consumer:
    """Observe a function that processes a message, or a list of them: a span, the messaging metrics and a line.

    As a decorator for def, async def and generators; what the function returns or raises is returned or raised, so
    the library still decides about acknowledgement. `consumer(...).processing(message)` is the same around a block.

    A single fresh message continues its sender's trace; what was delivered before, is old, or comes in a batch is
    linked. Correlation id and dimensions come from the headers, or from a ConnectSoft event envelope in the body.

    Args:
        destination: name of the queue, topic or subscription; static, a metric label.
        system: `servicebus`, `rabbitmq`, `kafka`, `redis`, ... as OpenTelemetry's `messaging.system` has them.
        headers: gives a message's headers; its `headers` or `application_properties` by default.
        sent: gives the time it was sent (datetime, or Unix seconds); what the library or our producer says by default.
        message: name of the argument that is the message; the first one (after self) by default.
        timeout: seconds that processing may take; as for `job`.
        rejects: exceptions that mean the message is at fault (poison): the outcome is `rejected`, the exception is
            raised on.
        telemetry: the Telemetry to use instead of the process's own.

    Raises:
        ConfigurationError: a name, limit or argument that cannot work.
    """
    where = "consumer"
    return Consumer(
        validate_name(where, destination),
        validate_name(where, system),
        headers,
        sent,
        message,
        RunOptions.checked(where, timeout, rejects),
        telemetry,
    )


class Consumer:
    """Observes the messages of one destination. Thread-safe; a decorator, and a maker of context managers."""

    def __init__(
        self,
        destination: str,
        system: str,
        headers: Accessor | None,
        sent: Accessor | None,
        message: str | None,
        terms: RunOptions,
        telemetry: Telemetry | None,
    ) -> None:
        self._destination = destination
        self._system = system
        self._headers = headers
        self._sent = sent
        self._message = message
        self._terms = terms
        self._given = telemetry
        self._record: MessageRecorder | None = None

    def __call__(self, function: F) -> F:
        """Observe each call of a function that processes a message.

        Raises:
            ConfigurationError: it is not a function, or has no such argument.
        """
        if isinstance(function, classmethod | staticmethod):
            return type(function)(self(function.__func__))
        resolve_name("consumer", None, function)
        position, name = _argument(function, self._message)

        def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
            return self.span_name(args[position] if position < len(args) else kwargs.get(name))

        return wrap(function, run, self._terms.timeout)  # type: ignore[return-value]

    def span_name(self, message: Any) -> Run:
        """The processing of a message, or of a list of them, as a context manager. Never raises."""
        try:
            return self._run(message)
        except Exception as failure:  # noqa: BLE001  ours; the message is processed without us
            record_internal_error("work.start", failure)
            return Run(None, NO_INBOUND, self._terms)

    def _run(self, message: Any) -> Run:
        telemetry = self._given or current()
        record = self._record
        if record is None or record.telemetry is not telemetry:
            record = self._bind()
        if record is None:
            return Run(None, NO_INBOUND, self._terms)
        try:
            arrival = self._arrival(record, message)
        except Exception as failure:  # noqa: BLE001  ours, or a `headers` function that fails; the message is processed
            record.telemetry.internal_telemetry.record_error("work.message", failure)
            arrival = InboundContext(count=len(message)) if isinstance(message, list) else NO_INBOUND
        return Run(record, arrival, self._terms)

    def _bind(self) -> MessageRecorder | None:
        telemetry = self._given or resolve_or_none()
        if telemetry is None or telemetry.settings.disabled:
            return None
        use_running_loop(telemetry)
        self._record = message_recorder(telemetry, self._system, self._destination)
        return self._record

    def _arrival(self, record: MessageRecorder, message: Any) -> InboundContext:
        if isinstance(message, list):
            several = [read(one, self._headers, self._sent) for one in message]
            return inbound.from_batch(record.telemetry, several)
        return inbound.from_message(record.telemetry, read(message, self._headers, self._sent), self._system)


def _argument(function: Callable[..., Any], wanted: str | None) -> tuple[int, str]:
    """Position and name of the argument that is the message."""
    try:
        parameters = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
    except ValueError:  # a builtin that has no signature
        return 0, ""
    names = [parameter.name for parameter in parameters]
    if wanted is not None:
        if wanted not in names:
            raise ConfigurationError(
                f"consumer(message={wanted!r})",
                "the function has no such argument",
                f"Its arguments are: {', '.join(names) or 'none'}.",
            )
        only_by_name = parameters[names.index(wanted)].kind is inspect.Parameter.KEYWORD_ONLY
        return (len(names) if only_by_name else names.index(wanted)), wanted
    position = 1 if names[:1] in (["self"], ["cls"]) and len(names) > 1 else 0
    if not names:
        raise ConfigurationError(
            f"@consumer on {getattr(function, '__qualname__', function)!r}",
            "it takes no message",
            "Decorate the function that is called with each message, or use `with consumer(...).processing(message):`.",
        )
    return position, names[position]
