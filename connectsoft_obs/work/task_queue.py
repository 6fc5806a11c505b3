"""Tasks of a task queue: a job whose run was asked for by a message, and that the queue itself may try again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import JOB_RUN_ID, PREVIOUS_ATTEMPT_HEADER, SENT_HEADER, Trigger
from connectsoft_obs.work import inbound, retry_links
from connectsoft_obs.work.job_recorder import job_recorder
from connectsoft_obs.work.message import MessageInfo, pairs, seconds
from connectsoft_obs.work.options import RunOptions
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.worker_process import use_running_loop


def task_run(  # noqa: PLR0913  the facts that a queue knows; by name only
    job: str,
    *,
    source: tuple[str, str] | None = None,
    identifier: str,
    headers: Any,
    sent: Any = None,
    redelivered: bool | None = None,
    attempt: int = 1,
    trigger: Trigger = Trigger.QUEUE,
    timeout: float | None = None,
    here: bool = False,
    telemetry: Telemetry | None = None,
) -> Run:
    """The run of a task, not yet begun. Never raises.

    Args:
        job: name of the task.
        source: messaging system and queue that it was delivered from; None where that is counted elsewhere.
        identifier: id of the task, the same for all its attempts.
        headers: what its sender put into it.
        sent: when, if the queue knows; what our own header says by default.
        redelivered: whether the broker delivered it before.
        attempt: which attempt this is, from 1.
        trigger: what started it.
        timeout: seconds after which the queue ends it.
        here: whether it is called where it is asked for, without any queue.
        telemetry: the Telemetry to use instead of the process's own.
    """
    given = telemetry or resolve_or_none()
    if given is None:
        return Run(None)
    record = job_recorder(given, job, trigger, source)
    use_running_loop(given)
    try:
        known = pairs(headers)
        moment = seconds(sent) or seconds(known.get(SENT_HEADER.encode()))
        arrival = inbound.from_message(given, MessageInfo(known, moment, None, int(bool(redelivered)), {}))
        previous = retry_links.before_task(identifier) if attempt > 1 else None
        links = arrival.links
        if previous is not None and all(link.span_id != previous.span_id for link in links):
            links = (*links, previous)
        arrival = replace(arrival, links=links, attempt=attempt, own={JOB_RUN_ID: identifier, **(arrival.own or {})})
        if here:
            arrival = replace(arrival, base=None)
    except Exception as failure:  # noqa: BLE001  ours; the task runs
        given.internal_telemetry.record_error("work.task_queue", failure)
        return Run(record, terms=RunOptions(timeout))
    return Run(record, arrival, RunOptions(timeout))


def mark_retried(run: Run, identifier: str) -> dict[str, str]:
    """Another attempt of this run's task follows: remember it, and give the header that tells the other attempt."""
    run.retried = True
    if run.context is None:
        return {}
    context = run.span.get_span_context()
    retry_links.remember_task(identifier, context)
    return {PREVIOUS_ATTEMPT_HEADER: f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"}
