"""The `@consumer` decorator: observes the processing of each message or batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.telemetry import Telemetry, current
from connectsoft_obs.work import inbound
from connectsoft_obs.work.inbound import NO_INBOUND, InboundContext
from connectsoft_obs.work.message import Accessor, read_message
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
    """Observe a function that processes a message or a list of messages: a span, messaging metrics and a log line.

    A decorator for def, async def and generators. Return values and exceptions of the function pass through, so the client
    library still decides about acknowledgement. `consumer(...).process(message)` does the same around a block.

    A single new message continues the trace of its sender; redelivered, old and batched messages are linked. Correlation
    id and dimensions come from the headers, or from a ConnectSoft event envelope in the body.

    Args:
        destination: name of the queue, topic or subscription; static, a metric label.
        system: `servicebus`, `rabbitmq`, `kafka`, `redis`, ... as in OpenTelemetry's `messaging.system`.
        headers: returns the headers of a message; its `headers` or `application_properties` by default.
        sent: returns the time of sending (datetime or Unix seconds); by default that of the library or of `producer`.
        message: name of the argument with the message; the first one (after self) by default.
        timeout: time limit of processing in seconds; as for `job`.
        rejects: exceptions that mean that the message is invalid: the outcome is `rejected`, the exception
            propagates.
        telemetry: a Telemetry other than that of the process.

    Raises:
        ConfigurationError: a name, timeout or argument is invalid.
    """
    where = "consumer"
    return Consumer(
        validate_name(where, destination),
        validate_name(where, system),
        headers,
        sent,
        message,
        RunOptions.create(where, timeout, rejects),
        telemetry,
    )


class Consumer:
    """Observes messages of one destination, as a decorator or with `process()`. Thread-safe."""

    def __init__(
        self,
        destination: str,
        system: str,
        headers: Accessor | None,
        sent: Accessor | None,
        message: str | None,
        options: RunOptions,
        telemetry: Telemetry | None,
    ) -> None:
        self._destination = destination
        self._system = system
        self._headers = headers
        self._sent = sent
        self._message_argument = message
        self._options = options
        self._telemetry = telemetry
        self._recorder: MessageRecorder | None = None

    def __call__(self, function: F) -> F:
        """Observe each call of a function that processes a message.

        Raises:
            ConfigurationError: the object is not a function, or has no message argument.
        """
        if isinstance(function, classmethod | staticmethod):
            return type(function)(self(function.__func__))
        resolve_name("consumer", None, function)
        position, name = _message_parameter(function, self._message_argument)

        def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
            return self.process(args[position] if position < len(args) else kwargs.get(name))

        return wrap(function, run, self._options.timeout)  # type: ignore[return-value]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without objects of this process, for pickle, cloudpickle and `copy.deepcopy`."""
        return {**self.__dict__, "_recorder": None}

    def process(self, message: Any) -> Run:
        """Context manager around the processing of a message or a list of messages. Never raises."""
        try:
            return self._run(message)
        except Exception as failure:  # noqa: BLE001  must not affect processing
            record_internal_error("work.start", failure)
            return Run(None, NO_INBOUND, self._options)

    def _run(self, message: Any) -> Run:
        telemetry = self._telemetry or current()
        recorder = self._recorder
        if recorder is None or recorder.telemetry is not telemetry:
            recorder = self._bind()
        if recorder is None:
            return Run(None, NO_INBOUND, self._options)
        try:
            inbound_context = self._read_inbound(recorder, message)
        except Exception as failure:  # noqa: BLE001  also errors of `headers`; must not affect processing
            recorder.telemetry.internal_telemetry.record_error("work.message", failure)
            inbound_context = InboundContext(count=len(message)) if isinstance(message, list) else NO_INBOUND
        return Run(recorder, inbound_context, self._options)

    def _bind(self) -> MessageRecorder | None:
        telemetry = self._telemetry or resolve_or_none()
        if telemetry is None or telemetry.settings.disabled:
            return None
        use_running_loop(telemetry)
        self._recorder = message_recorder(telemetry, self._system, self._destination)
        return self._recorder

    def _read_inbound(self, recorder: MessageRecorder, message: Any) -> InboundContext:
        if isinstance(message, list):
            messages = [read_message(item, self._headers, self._sent) for item in message]
            return inbound.from_batch(recorder.telemetry, messages)
        return inbound.from_message(recorder.telemetry, read_message(message, self._headers, self._sent), self._system)


def _message_parameter(function: Callable[..., Any], name: str | None) -> tuple[int, str]:
    """Position and name of the message argument."""
    try:
        parameters = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
    except ValueError:  # a builtin without a signature
        return 0, ""
    names = [parameter.name for parameter in parameters]
    if name is not None:
        if name not in names:
            raise ConfigurationError(
                f"consumer(message={name!r})",
                "the function has no such argument",
                f"Its arguments are: {', '.join(names) or 'none'}.",
            )
        is_keyword_only = parameters[names.index(name)].kind is inspect.Parameter.KEYWORD_ONLY
        return (len(names) if is_keyword_only else names.index(name)), name
    position = 1 if names[:1] in (["self"], ["cls"]) and len(names) > 1 else 0
    if not names:
        raise ConfigurationError(
            f"@consumer on {getattr(function, '__qualname__', function)!r}",
            "it has no arguments",
            "Decorate the function that is called with each message, or use `with consumer(...).process(message):`.",
        )
    return position, names[position]
