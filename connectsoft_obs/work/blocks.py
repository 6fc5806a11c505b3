"""A block of code as a run, for where a decorator does not fit; and how any run says that there was nothing to do."""

from __future__ import annotations

from opentelemetry.context import Context

from connectsoft_obs.context import current
from connectsoft_obs.ledger import failed
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import Trigger
from connectsoft_obs.work import attempts
from connectsoft_obs.work.arrival import ALONE, Arrival
from connectsoft_obs.work.found import found
from connectsoft_obs.work.jobs import job_record
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.terms import NO_TERMS, Terms


def operation(
    name: str,
    *,
    trigger: Trigger | str = Trigger.OTHER,
    parent: Context | None = None,
    timeout: float | None = None,
    attempt: int = 0,
    attempts: int = 0,
    rejects: type[BaseException] | tuple[type[BaseException], ...] = (),
    telemetry: Telemetry | None = None,
) -> Run:
    """Observe a block of work as one run: a span, a duration, an in-flight count and a line.

    `with obs.operation("import-file"): ...`, in sync and async code alike. What the block raises is raised.

    Args:
        name: static name; it becomes a metric label.
        trigger: what started it.
        parent: what it continues, from `extract()`; what runs now by default.
        timeout: seconds after which it counts as timed out; a block is observed, not interrupted.
        attempt: which attempt this is, from 1, in a loop that tries again; it links to the one before.
        attempts: how many there are at most; a failure before the last one is a retry and not a failure.
        rejects: exceptions that mean the input is at fault: the outcome is `rejected`.
        telemetry: the Telemetry to use instead of the process's own.
    """
    terms = NO_TERMS if timeout is None and rejects == () else Terms.checked("operation", timeout, rejects)
    begun_by, record, arrival = Trigger(trigger), None, ALONE
    try:
        given = telemetry or found()
        record = None if given is None else job_record(given, name, begun_by)
        if parent is not None or attempt:
            arrival = attempted(f"run {name}", attempt, attempts, parent)
    except Exception as failure:  # noqa: BLE001  ours; the block runs without us
        failed("work.open", failure)
    return Run(record, arrival, terms)


def attempted(title: str, attempt: int, most: int, parent: Context | None = None) -> Arrival:
    """The arrival of an attempt, linked to the attempt before it in the same task or thread."""
    previous = attempts.before(title) if attempt > 1 else None
    links = () if previous is None else (previous,)
    return Arrival(base=parent, explicit=parent is not None, links=links, attempt=attempt, most=most)


def skip(reason: str) -> None:
    """Say that the run that is current had nothing to do, or nothing that it could: its outcome is `rejected`.

    It does not raise, so `return obs.skip("no orders")` is how a function ends with it; an exception after it decides
    the outcome itself. Outside a job, consumer or `operation` block it does nothing.

    Args:
        reason: for the span and the line; never a metric label.
    """
    run = current()
    if isinstance(run, Run):
        run.reason = reason
