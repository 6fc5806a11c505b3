"""Runs of tasks of a task queue, which the queue can retry; used by the integrations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import JOB_RUN_ID, PREVIOUS_ATTEMPT_HEADER, SENT_HEADER, Trigger
from connectsoft_obs.work import inbound, retry_links
from connectsoft_obs.work.job_recorder import job_recorder
from connectsoft_obs.work.message import MessageInfo, read_headers, to_unix_seconds
from connectsoft_obs.work.options import RunOptions
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.worker_process import use_running_loop


def task_run(  # noqa: PLR0913  keyword arguments only
    job: str,
    *,
    source: tuple[str, str] | None = None,
    identifier: str,
    headers: Any,
    sent_at: Any = None,
    redelivered: bool | None = None,
    attempt: int = 1,
    trigger: Trigger = Trigger.QUEUE,
    timeout: float | None = None,
    inline: bool = False,
    is_start_counted: bool = False,
    telemetry: Telemetry | None = None,
) -> Run:
    """Create the run of a task; the caller starts it. Never raises.

    Args:
        job: name of the task.
        source: messaging system and queue; None if received messages are counted elsewhere.
        identifier: task id, equal for all attempts.
        headers: headers of the sender.
        sent_at: time of sending, if the queue provides it; else from the header of `producer`.
        redelivered: whether the broker redelivered it.
        attempt: number of the attempt, from 1.
        trigger: what started it.
        timeout: seconds after which the queue ends it.
        inline: whether the task runs in the process of the caller, without a queue.
        is_start_counted: whether another process, which was killed, has counted the start of this attempt.
        telemetry: a Telemetry other than that of the process.
    """
    telemetry = telemetry or resolve_or_none()
    if telemetry is None:
        return Run(None)
    recorder = job_recorder(telemetry, job, trigger, source)
    use_running_loop(telemetry)
    try:
        header_values = read_headers(headers)
        sent = to_unix_seconds(sent_at) or to_unix_seconds(header_values.get(SENT_HEADER.encode()))
        inbound_context = inbound.from_message(
            telemetry, MessageInfo(header_values, sent, None, int(bool(redelivered)), {})
        )
        previous = retry_links.previous_task_attempt(identifier) if attempt > 1 else None
        links = inbound_context.links
        if previous is not None and all(link.span_id != previous.span_id for link in links):
            links = (*links, previous)
        inbound_context = replace(
            inbound_context,
            links=links,
            attempt=attempt,
            count=0 if is_start_counted else inbound_context.count,
            span_attributes={JOB_RUN_ID: identifier, **(inbound_context.span_attributes or {})},
        )
        if inline:
            inbound_context = replace(inbound_context, context=None)
    except Exception as failure:  # noqa: BLE001  must not affect the task
        telemetry.internal_telemetry.record_error("work.task_queue", failure)
        return Run(recorder, options=RunOptions(timeout))
    return Run(recorder, inbound_context, RunOptions(timeout))


def mark_retried(run: Run, identifier: str) -> dict[str, str]:
    """Mark the run as retried, and return the header that links the next attempt to it."""
    run.retried = True
    if run.context is None:
        return {}
    context = run.span.get_span_context()
    retry_links.store_task_attempt(identifier, context)
    return {PREVIOUS_ATTEMPT_HEADER: f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"}
