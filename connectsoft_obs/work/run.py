"""One run of background work, a job's or a message's: the same four signals as a request, around any code."""

from __future__ import annotations

from contextvars import Token
from functools import partial
from time import perf_counter_ns, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import Link, SpanContext, SpanKind

from connectsoft_obs.context import CORRELATION, OPERATION, SPAN, context_with, otel_context
from connectsoft_obs.operations import Operation, already_logged, exception_name
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs import NOTHING
from connectsoft_obs.signals.tracing import NO_ENCODED_ATTRIBUTES, NonRecordingSpan, Span, digits
from connectsoft_obs.vocabulary import (
    CORRELATION_ID,
    EXCEPTION_MESSAGE,
    EXCEPTION_TYPE,
    JOB_ATTEMPT,
    SKIP_REASON,
    Outcome,
)
from connectsoft_obs.work import retry_links
from connectsoft_obs.work.heartbeats import Heartbeat, enclosing_heartbeat
from connectsoft_obs.work.inbound import NO_INBOUND, InboundContext
from connectsoft_obs.work.options import EARLY_NS, NO_TERMS, RunOptions

if TYPE_CHECKING:
    from connectsoft_obs.work.recorder import BoundOutcome, RunRecorder

_BAD = (Outcome.FAILURE, Outcome.TIMEOUT)
_SUCCESS = Outcome.SUCCESS  # a look-up less


class Run(Operation):
    """A run of a job or the processing of a message, as a context manager, in sync and async code alike.

    Success is leaving the block; an exception is raised on, and decides the outcome. One instance is one run.
    """

    __slots__ = ("_record", "_token", "arrival", "context", "loop", "reason", "retried", "span", "start_ns", "struck", "terms", "wall_ns")  # fmt: skip

    def __init__(
        self, record: RunRecorder | None, arrival: InboundContext = NO_INBOUND, terms: RunOptions = NO_TERMS
    ) -> None:
        self.name: str = "" if record is None else record.name  # what Operation's constructor does, without the call
        self.correlation_id: str | None = None
        self.bound_attributes: dict[str, Any] | None = None
        self.outcome: Outcome | None = None
        self.error_type: str | None = None
        self._record = record
        self._token: Token[Context] | None = None
        self.arrival: InboundContext = arrival
        self.terms: RunOptions = terms
        self.reason: str | None = None
        self.retried: bool = False
        self.struck: bool = False
        self.wall_ns: int = 0
        self.start_ns: int = 0
        self.context: Context | None = None
        self.loop: Heartbeat | None = None
        self.span: Span | NonRecordingSpan

    def __enter__(self) -> Run:
        """Begin the run, and make it current."""
        if self.begin():
            self._token = otel_context.attach(self.context)  # type: ignore[arg-type]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """End the run; the exception, if there is one, is raised on."""
        token, self._token = self._token, None
        if token is not None:
            try:
                otel_context.reset(token)
            except ValueError:
                otel_context.detach(token)
        self.end(error)

    def begin(self) -> bool:
        """Begin without making the run current; False where it is not observed."""
        record = self._record
        if record is None:
            self.start_ns = perf_counter_ns()  # a time limit is kept, observed or not
            return False
        try:
            self._open(record)
        except Exception as failure:  # noqa: BLE001  ours; the work goes on without us
            self.start_ns = perf_counter_ns()
            self.context = None
            record.running.runs.discard(self)
            record.telemetry.internal_telemetry.record_error("work.begin", failure)
            self._record = None
            return False
        return True

    def resume(self) -> Token[Context] | None:
        """Make the run current for one step; the token is for `pause`."""
        return None if self.context is None else attach(self.context)

    def pause(self, token: Token[Context] | None) -> None:
        """End a step: what is current now is current again in the next step, and not in between."""
        if token is not None:
            self.context = get_current()
            detach(token)

    def end(self, error: BaseException | None) -> None:
        """End the run. Again does nothing."""
        record, self._record = self._record, None
        if record is None:
            return
        elapsed_ns = perf_counter_ns() - self.start_ns
        try:
            record.on_leave(self)
            if self.loop is not None:
                self.loop.runs.discard(self)
            self._close(record, error, elapsed_ns)
        except Exception as failure:  # noqa: BLE001  ours; the work is done and stays as it was
            record.telemetry.internal_telemetry.record_error("work.end", failure)
        self.context = None  # it holds this run: together they would wait for the garbage collector
        running = record.running
        running.runs.discard(self)  # last of all: a process that does nothing may be ended
        if running.after is not None:
            running.after(self)

    def discard(self) -> None:
        """End it without a trace: another process knows what became of it, and tells."""
        record, self._record = self._record, None
        token, self._token = self._token, None
        if token is not None:
            detach(token)
        if record is not None:
            record.on_leave(self)
            record.running.runs.discard(self)
        self.context = None

    def backdate_start(self, seconds: float) -> None:
        """It has been running for so long already when it is begun here."""
        self.start_ns -= int(seconds * 1e9)
        self.wall_ns -= int(seconds * 1e9)

    def warn(self, message: str) -> None:
        """Say once that the code around this run cannot be observed as it looks."""
        if (record := self._record) is not None:
            record.telemetry.internal_telemetry.warn_once(("work", self.name), message, {"operation": self.name})

    @property
    def deadline_ns(self) -> int | None:
        """When its time is up, on the clock of `time.perf_counter_ns`."""
        return None if self.terms.timeout is None else self.start_ns + int(self.terms.timeout * 1e9)

    @property
    def late(self) -> bool:
        """Whether its time limit is over, in the eyes of whoever enforces it from outside."""
        deadline = self.deadline_ns
        return deadline is not None and perf_counter_ns() >= deadline - EARLY_NS

    def _open(self, record: RunRecorder) -> None:
        arrival = self.arrival
        here = otel_context.get_current()
        if arrival is not NO_INBOUND:
            here = self._arrive(arrival, here)
        elif (enclosing := here.get(OPERATION)) is not None:
            self._inherit(enclosing)
        parent = _span_context(here) if SPAN in here else None
        local = parent is not None and not parent.is_remote
        self.wall_ns, self.start_ns = time_ns(), perf_counter_ns()
        self.span = record.tracer.start_fast(
            record.title,
            record.inside if local else SpanKind.CONSUMER,
            parent,
            self.wall_ns,
            partial(record.known, arrival) if record.tracer.provider.watched else None,
            here,
            [Link(context) for context in arrival.links] if arrival.links else (),
            arrival.root_id,
        )
        self.context = context_with(self, self.span, here)
        if self.terms.timeout is not None:
            self.loop = enclosing_heartbeat(self)
        record.running.runs.add(self)
        record.on_start(self)

    def _arrive(self, arrival: InboundContext, here: Context) -> Context:
        """The context to begin in, for a run that somebody asked for."""
        base, enclosing = arrival.base, here.get(OPERATION)
        if enclosing is not None and not arrival.explicit:
            self._inherit(enclosing)
        if base is not None:
            span = _span_context(here)
            if span is not None and not span.is_remote and not arrival.explicit:
                base = Context({**base, SPAN: here[SPAN]})
            here = base
        if (given := here.get(CORRELATION)) is not None:
            self.correlation_id = str(given)
        if arrival.correlation_id is not None:
            self.correlation_id = arrival.correlation_id
        if arrival.bound_attributes:
            self.bound_attributes = {**(self.bound_attributes or {}), **arrival.bound_attributes}
        return here

    def _inherit(self, enclosing: object) -> None:
        if isinstance(enclosing, Operation):
            self.bound_attributes, self.correlation_id = enclosing.bound_attributes, enclosing.correlation_id

    def _close(self, record: RunRecorder, error: BaseException | None, elapsed_ns: int) -> None:
        retried = self.retried
        ordinary = error is None and self.arrival is NO_INBOUND and self.reason is None and self.terms.timeout is None
        if ordinary and not retried:  # nearly every run; there is nothing to find out
            outcome, name = _SUCCESS, None
        else:
            outcome, name = self.terms.outcome(error, elapsed_ns, self.reason is not None, self.struck)
            retried = retried or (outcome in _BAD and 0 < self.arrival.attempt < self.arrival.most)
        self.outcome = outcome
        self.error_type = name
        ending = record.endings.get((outcome, name, retried)) or record.ending(outcome, name, retried)
        seconds, now = elapsed_ns / 1e9, self.wall_ns + elapsed_ns
        span = self.span
        if ending.duration is not None:
            if record.exemplars and span.flags & 1:
                ending.duration.observe_with_exemplar(seconds, span.ids, now)
            else:
                ending.duration.observe(seconds)
            if ending.count is not None:
                ending.count(seconds)
            record.on_finish(self, outcome, now)
        if type(span) is Span:
            own = None if ordinary and self.correlation_id is None and not self.bound_attributes else self._own()
            span.finish(record.title, ending.shared, NO_ENCODED_ATTRIBUTES, own, ending.bad, now)
        if retried:
            retry_links.store_attempt(record.title, span.get_span_context())
        if ending.form is not None and error is None and self.reason is None:
            if ending.level >= record.quiet and self.context is not None:
                logs = record.telemetry.logs
                more = None if self.arrival is NO_INBOUND else logs.clean(self._log_fields())
                logs.write_templated(
                    ending.form, self.context, digits(span), ending.level, now, self, (seconds,), NOTHING, more
                )
        else:
            self._log_outcome(record, ending, error, seconds)

    def _log_fields(self) -> dict[str, Any]:
        """What came along that is of this run alone."""
        arrival = self.arrival
        own = {} if arrival.own is None else dict(arrival.own)
        if arrival.attempt:
            own[JOB_ATTEMPT] = arrival.attempt
        return own

    def _own(self) -> dict[str, Any]:
        """Span attributes that only this run has."""
        own = self._log_fields()
        if self.reason is not None:
            own[SKIP_REASON] = self.reason
        if self.correlation_id is not None:
            own[CORRELATION_ID] = self.correlation_id
        if self.bound_attributes:
            own |= self.bound_attributes
        return own

    def _log_outcome(
        self, record: RunRecorder, ending: BoundOutcome, error: BaseException | None, seconds: float
    ) -> None:
        """Write the line; an exception is in the line of the operation that it left first, once it is final."""
        fresh = ending.bad and ending.duration is not None and error is not None and not already_logged(error)
        if ending.level < record.quiet and not fresh:
            return
        fields = {**ending.fields, record.durations.metric.name: seconds}
        fields |= self._log_fields()
        if self.reason is not None:
            fields[SKIP_REASON] = self.reason
        if fresh:
            fields["otel.event.name"] = record.event
        elif ending.bad and error is not None:
            fields |= {EXCEPTION_TYPE: exception_name(error), EXCEPTION_MESSAGE: safe_str(error, str)}
        assert self.context is not None
        record.telemetry.logs.emit_with_context(
            self.context, ending.level, ending.message, fields, record.logger, error if fresh else None
        )


def _span_context(context: Context) -> SpanContext | None:
    """The valid span of a context."""
    span = context.get(SPAN)
    found = None if span is None else span.get_span_context()  # type: ignore[attr-defined]
    return found if found is not None and found.is_valid else None
