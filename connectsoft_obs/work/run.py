"""State of one run of a job, or of the processing of a message; records span, metrics and log line."""

from __future__ import annotations

from contextvars import Token
from functools import partial
from time import perf_counter_ns, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind

from connectsoft_obs.context import CORRELATION_KEY, OPERATION_KEY, SPAN_KEY, context_with, otel_context
from connectsoft_obs.operations import Operation
from connectsoft_obs.signals.logs import NO_FIELDS
from connectsoft_obs.signals.tracing import (
    NO_ENCODED_ATTRIBUTES,
    ExternalSpan,
    NonRecordingSpan,
    Span,
    api_span,
    hex_id_bytes,
)
from connectsoft_obs.vocabulary import Outcome
from connectsoft_obs.work import retry_links
from connectsoft_obs.work.heartbeats import Heartbeat, enclosing_heartbeat
from connectsoft_obs.work.inbound import NO_INBOUND, InboundContext
from connectsoft_obs.work.options import DEADLINE_TOLERANCE_NS, DEFAULT_OPTIONS, RunOptions
from connectsoft_obs.work.run_attributes import log_outcome, run_fields, span_attributes

if TYPE_CHECKING:
    from connectsoft_obs.work.recorder import RunRecorder

_BAD_OUTCOMES = (Outcome.FAILURE, Outcome.TIMEOUT)
_SUCCESS = Outcome.SUCCESS  # saves one look-up


class Run(Operation):
    """A run of a job or the processing of a message; a context manager for sync and async code.

    An exception that leaves the block determines the outcome and propagates. An instance is used once.
    """

    __slots__ = (
        "_recorder", "_token", "context", "heartbeat", "inbound", "options", "retried", "skip_reason", "span", "start_ns",
        "timed_out", "wall_ns",
    )  # fmt: skip

    def __init__(
        self, recorder: RunRecorder | None, inbound: InboundContext = NO_INBOUND, options: RunOptions = DEFAULT_OPTIONS
    ) -> None:
        self.name: str = (
            "" if recorder is None else recorder.name
        )  # same as the constructor of Operation, without the call
        self.correlation_id: str | None = None
        self.bound_attributes: dict[str, Any] | None = None
        self.outcome: Outcome | None = None
        self.error_type: str | None = None
        self._recorder = recorder
        self._token: Token[Context] | None = None
        self.inbound: InboundContext = inbound
        self.options: RunOptions = options
        self.skip_reason: str | None = None
        self.retried: bool = False
        self.timed_out: bool = False
        self.wall_ns: int = 0
        self.start_ns: int = 0
        self.context: Context | None = None
        self.heartbeat: Heartbeat | None = None
        self.span: Span | NonRecordingSpan | ExternalSpan

    def __enter__(self) -> Run:
        """Start the run and make it current."""
        if self.begin():
            self._token = otel_context.attach(self.context)  # type: ignore[arg-type]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """End the run; an exception propagates."""
        token, self._token = self._token, None
        if token is not None:
            try:
                otel_context.reset(token)
            except ValueError:  # the block is in a generator that another task closes
                if (attached := self.context) is not None:
                    self.context = Context(attached)  # for the log line
                    otel_context.restore_in_place(attached, token)
        self.end(error)

    def begin(self) -> bool:
        """Start the run without making it current; False if it is not recorded."""
        recorder = self._recorder
        if recorder is None:
            self.start_ns = perf_counter_ns()  # a deadline applies also to a run that is not recorded
            return False
        try:
            self._start(recorder)
        except Exception as failure:  # noqa: BLE001  must not affect the work
            self.start_ns = perf_counter_ns()
            self.context = None
            recorder.registry.runs.discard(self)
            recorder.telemetry.internal_telemetry.record_error("work.begin", failure)
            self._recorder = None
            return False
        return True

    def resume(self) -> Token[Context] | None:
        """Make the run current for one step; pass the token to `pause`."""
        return None if self.context is None else otel_context.attach(self.context)

    def pause(self, token: Token[Context] | None) -> None:
        """End a step and keep its context for the next step."""
        if token is not None:
            self.context = otel_context.get_current()
            otel_context.detach(token)

    def end(self, error: BaseException | None) -> None:
        """End the run. Idempotent."""
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        elapsed_ns = perf_counter_ns() - self.start_ns
        try:
            recorder.on_end()
            if self.heartbeat is not None:
                self.heartbeat.runs.discard(self)
            self._finish(recorder, error, elapsed_ns)
        except Exception as failure:  # noqa: BLE001  must not affect the work
            recorder.telemetry.internal_telemetry.record_error("work.end", failure)
        self.context = None  # breaks the reference cycle with this run
        running = recorder.registry
        running.runs.discard(self)  # last: a process without active runs can be stopped
        if running.on_run_end is not None:
            running.on_run_end(self)

    def discard(self) -> None:
        """Discard the run without recording it, because another process records it."""
        recorder, self._recorder = self._recorder, None
        token, self._token = self._token, None
        if token is not None:
            otel_context.detach(token, self.context)
        if recorder is not None:
            recorder.on_end()
            recorder.registry.runs.discard(self)
        self.context = None

    def backdate_start(self, seconds: float) -> None:
        """Set the start back by `seconds`, for a run that started in another process."""
        nanoseconds = int(seconds * 1e9)
        self.start_ns -= nanoseconds
        self.wall_ns -= nanoseconds
        if type(self.span) is Span:
            self.span.start_ns -= nanoseconds

    def warn(self, message: str) -> None:
        """Log a warning about this operation once."""
        if (recorder := self._recorder) is not None:
            recorder.telemetry.internal_telemetry.warn_once(("work", self.name), message, {"operation": self.name})

    @property
    def deadline_ns(self) -> int | None:
        """Deadline in nanoseconds of `time.perf_counter_ns`, None without a timeout."""
        return None if self.options.timeout is None else self.start_ns + int(self.options.timeout * 1e9)

    @property
    def deadline_passed(self) -> bool:
        """Whether the timeout has passed, with a tolerance for timeouts that are enforced from outside."""
        deadline = self.deadline_ns
        return deadline is not None and perf_counter_ns() >= deadline - DEADLINE_TOLERANCE_NS

    def _start(self, recorder: RunRecorder) -> None:
        inbound = self.inbound
        context = otel_context.get_current()
        if inbound is not NO_INBOUND:
            context = self._apply_inbound(inbound, context)
        elif (enclosing := context.get(OPERATION_KEY)) is not None:
            self._inherit(enclosing)
        parent = _span_context(context) if SPAN_KEY in context else None
        local = parent is not None and not parent.is_remote
        self.wall_ns, self.start_ns = time_ns(), perf_counter_ns()
        self.span = span = recorder.tracer.start_fast(
            recorder.span_name,
            recorder.nested_span_kind if local else SpanKind.CONSUMER,
            parent,
            self.wall_ns,
            partial(recorder.start_attributes, inbound) if recorder.tracer.provider.needs_start_attributes else None,
            context,
            [Link(context) for context in inbound.links] if inbound.links else (),
            inbound.root_id,
        )
        self.context = context_with(self, span if type(span) is Span else api_span(span), context)
        if self.options.timeout is not None:
            self.heartbeat = enclosing_heartbeat(self)
        recorder.registry.runs.add(self)
        recorder.on_start(self.inbound)

    def _apply_inbound(self, inbound: InboundContext, context: Context) -> Context:
        """The context in which a run with inbound context starts."""
        base, enclosing = inbound.context, context.get(OPERATION_KEY)
        if enclosing is not None and not inbound.is_explicit:
            self._inherit(enclosing)
        if base is not None:
            span = _span_context(context)
            if span is not None and not span.is_remote and not inbound.is_explicit:
                base = Context({**base, SPAN_KEY: context[SPAN_KEY]})
            context = base
        if (correlation := context.get(CORRELATION_KEY)) is not None:
            self.correlation_id = str(correlation)
        if inbound.correlation_id is not None:
            self.correlation_id = inbound.correlation_id
        if inbound.bound_attributes:
            self.bound_attributes = {**(self.bound_attributes or {}), **inbound.bound_attributes}
        return context

    def _inherit(self, enclosing: object) -> None:
        if isinstance(enclosing, Operation):
            self.bound_attributes, self.correlation_id = enclosing.bound_attributes, enclosing.correlation_id

    def _finish(self, recorder: RunRecorder, error: BaseException | None, elapsed_ns: int) -> None:
        retried = self.retried
        ordinary = (
            error is None and self.inbound is NO_INBOUND and self.skip_reason is None and self.options.timeout is None
        )
        if ordinary and not retried:  # most runs
            outcome, name = _SUCCESS, None
        else:
            stopping = recorder.telemetry.health.draining
            skipped = self.skip_reason is not None
            outcome, name = self.options.outcome(error, elapsed_ns, skipped, self.timed_out, stopping)
            retried = retried or (outcome in _BAD_OUTCOMES and 0 < self.inbound.attempt < self.inbound.max_attempts)
        self.outcome = outcome
        self.error_type = name
        bound = recorder.bound_outcomes.get((outcome, name, retried)) or recorder.bound_outcome(outcome, name, retried)
        seconds, now = elapsed_ns / 1e9, self.wall_ns + elapsed_ns
        span = self.span
        if bound.duration is not None:
            if recorder.exemplars and span.flags & 1:
                bound.duration.observe_with_exemplar(seconds, span.ids, now)
            else:
                bound.duration.observe(seconds)
            if bound.count_slo_event is not None:
                bound.count_slo_event(seconds)
            recorder.on_outcome(self.inbound, outcome, now)
        if type(span) is Span or type(span) is ExternalSpan:
            attributes = (
                None
                if ordinary and self.correlation_id is None and not self.bound_attributes
                else span_attributes(self, run_fields(self.inbound, self.skip_reason))
            )
            span.finish(recorder.span_name, bound.span_attributes, NO_ENCODED_ATTRIBUTES, attributes, bound.is_bad, now)
        if retried:
            retry_links.store_attempt(recorder.span_name, span.get_span_context())
        if bound.line_template is not None and error is None and self.skip_reason is None:
            if bound.level >= recorder.min_level and self.context is not None:
                logs = recorder.telemetry.logs
                more = None if self.inbound is NO_INBOUND else logs.sanitize(run_fields(self.inbound, None))
                logs.write_templated(
                    bound.line_template,
                    self.context,
                    hex_id_bytes(span),
                    bound.level,
                    now,
                    self,
                    (seconds,),
                    NO_FIELDS,
                    more,
                )
        else:
            fields = run_fields(self.inbound, self.skip_reason)
            log_outcome(recorder, bound, self.context, fields, error, seconds)


def _span_context(context: Context) -> SpanContext | None:
    """Span context of a context if it is valid, else None."""
    span = context.get(SPAN_KEY)
    span_context = None if span is None else span.get_span_context()  # type: ignore[attr-defined]
    return span_context if span_context is not None and span_context.is_valid else None
