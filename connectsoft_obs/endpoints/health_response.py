"""A health report as probers, people, the .NET Health Checks UI and the aggregator read it; exactly 200 or 503."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

import orjson

from connectsoft_obs.endpoints.messages import JSON, NOT_FOUND, EndpointRequest, EndpointResponse
from connectsoft_obs.health import Entry, Report
from connectsoft_obs.health.report import LIFECYCLE, reported
from connectsoft_obs.redaction import RedactionPolicy
from connectsoft_obs.vocabulary import HealthState

TEXT = "text/plain; charset=utf-8"
_MAX_REASON = 500
_WORDS = {state: state.value.capitalize() for state in HealthState}


def page(
    report: Report, asked: EndpointRequest, details: bool, policy: RedactionPolicy, only: str = ""
) -> EndpointResponse:
    """Answer a question.

    `?exclude=name` (again and again, or with commas) leaves checks out of the verdict; an unknown name is noted and
    otherwise ignored. `?verbose`, or `Accept: text/plain`, answers in lines for people.

    Args:
        report: what is known.
        asked: the question.
        details: whether reasons may be in the answer.
        policy: replaces secrets in reasons.
        only: the one check it is about.
    """
    if only:
        entries = [entry for entry in report.entries if entry.name == only]
        if not entries:
            return NOT_FOUND
        report = reported(report.probe, entries, report.phase)
    if details:
        entries = [entry._replace(reason=shown_reason(entry.reason, policy)) for entry in report.entries]
        report = report._replace(entries=tuple(entries))
    query = _query(asked.query) if asked.query else {}
    excluded = {name for value in query.get("exclude", ()) for name in value.split(",") if name}
    unknown = sorted(excluded - {entry.name for entry in report.entries})
    if excluded:
        # What is not a check (draining, a dead vital part) is not a prober's to ignore.
        excluded = {entry.name for entry in report.entries if entry.name in excluded and LIFECYCLE not in entry.tags}
        counted = [entry for entry in report.entries if entry.name not in excluded]
        state = reported(report.probe, counted, report.phase).state
        report = Report(report.probe, state, report.entries, report.phase)
    if "verbose" in query or _wants_text(asked):
        return _text(report, details, excluded, unknown)
    return _json(report, details, excluded, unknown)


def is_plain(asked: EndpointRequest) -> bool:
    """Whether a question is the one that probers ask: nothing in it changes the answer."""
    return not asked.query and not _wants_text(asked)


def shown_reason(reason: str, policy: RedactionPolicy) -> str:
    """A reason without secrets, cut to `_MAX_REASON` characters."""
    text = policy.redact_text(reason[: 4 * _MAX_REASON])
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 3] + "..."


def _wants_text(asked: EndpointRequest) -> bool:
    return asked.headers.get(b"accept", b"").startswith(b"text/plain")


def _query(query: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return {}  # nobody means a hundred parameters


def _json(report: Report, details: bool, excluded: set[str], unknown: list[str]) -> EndpointResponse:
    entries: dict[str, dict[str, Any]] = {}
    for entry in report.entries:
        content: dict[str, Any] = {"status": _WORDS[entry.state], "duration": timespan(entry.duration)}
        if details and entry.reason:
            content["description"] = entry.reason
        data = _data(entry) if details else {}
        if entry.name in excluded:
            data["excluded"] = True
        entries[entry.name] = {**content, "tags": list(entry.tags), "data": data}
    body: dict[str, Any] = {
        "status": _WORDS[report.state],
        "totalDuration": timespan(sum(entry.duration for entry in report.entries)),
        "entries": entries,
        "ApplicationHealthState": "Healthy" if report.passes else "Unhealthy",
    }
    if unknown:
        body["notes"] = [_note(unknown)]
    return EndpointResponse(200 if report.passes else 503, JSON, orjson.dumps(body))


def _data(entry: Entry) -> dict[str, Any]:
    """What whoever may see details sees of a check besides its state."""
    if not entry.scope:
        return {}
    data: dict[str, Any] = {"critical": entry.critical, "scope": entry.scope}
    if entry.age is not None:
        when = datetime.fromtimestamp(time.time() - entry.age, UTC).isoformat(timespec="milliseconds")
        data |= {"checked": when.replace("+00:00", "Z"), "failures": entry.failures}
    return data


def _text(report: Report, details: bool, excluded: set[str], unknown: Iterable[str]) -> EndpointResponse:
    """The form that Kubernetes' own components answer in."""
    lines = [_line(entry, details, entry.name in excluded) for entry in report.entries]
    if unknown:
        lines.append(f"warn: {_note(unknown)}")
    lines.append(f"{report.probe} check {'passed' if report.passes else 'failed'}: {report.state}")
    return EndpointResponse(200 if report.passes else 503, TEXT, ("\n".join(lines) + "\n").encode("utf-8", "replace"))


def _line(entry: Entry, details: bool, excluded: bool) -> str:
    if excluded:
        return f"[+]{entry.name} excluded: ok"
    if entry.state is HealthState.HEALTHY:
        return f"[+]{entry.name} ok"
    word = "failed" if entry.state is HealthState.UNHEALTHY else "degraded"
    reason = " ".join(entry.reason.split()) if details else "reason withheld"
    return f"[{'-' if entry.state is HealthState.UNHEALTHY else '!'}]{entry.name} {word}: {reason}"


def _note(unknown: Iterable[str]) -> str:
    return f"some health checks cannot be excluded: there is no {', '.join(repr(name)[:100] for name in unknown)}"


@lru_cache(512)  # a duration changes when its check runs, and is asked for by each probe
def timespan(seconds: float) -> str:
    """Seconds as .NET prints a TimeSpan: `00:00:00.0012345`."""
    ticks = round(max(seconds, 0) * 10_000_000)
    minutes, rest = divmod(ticks, 600_000_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 10_000_000:02d}.{rest % 10_000_000:07d}"
