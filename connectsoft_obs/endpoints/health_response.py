"""The response to a health probe: JSON as the .NET Health Checks UI reads it, or text. The status is 200 or 503."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

import orjson

from connectsoft_obs.endpoints.request_response import JSON, NOT_FOUND, TEXT_PLAIN, EndpointRequest, EndpointResponse
from connectsoft_obs.health import Entry, Report
from connectsoft_obs.health.report import LIFECYCLE, build_report
from connectsoft_obs.redaction import RedactionPolicy
from connectsoft_obs.vocabulary import SCOPE, HealthState

_MAX_REASON = 500
REASONS_NOTE = (
    f"the reasons are in the log (logger {SCOPE}), and in responses to requests that have CONNECTSOFT_OBS_DETAILS_TOKEN "
    "as bearer token"
)
"""Note in a response with status 503 whose reasons are hidden. It is constant, so that it reveals nothing."""
_STATUS_NAMES = {state: state.value.capitalize() for state in HealthState}


def health_page(
    report: Report, request: EndpointRequest, details: bool, policy: RedactionPolicy, check: str = ""
) -> EndpointResponse:
    """Return the response for a health report.

    `?exclude=name` (repeated, or with commas) excludes checks from the status; an unknown name is noted in the response
    and otherwise ignored. `?verbose` and `Accept: text/plain` select the text format.

    Args:
        report: the health report.
        request: the request.
        details: whether failure reasons may be shown.
        policy: redacts secrets in reasons.
        check: restricts the report to one check.
    """
    if check:
        entries = [entry for entry in report.entries if entry.name == check]
        if not entries:
            return NOT_FOUND
        report = build_report(report.probe, entries, report.phase)
    if details:
        entries = [entry._replace(reason=redact_reason(entry.reason, policy)) for entry in report.entries]
        report = report._replace(entries=tuple(entries))
    query = _parse_query(request.query) if request.query else {}
    excluded = {name for value in query.get("exclude", ()) for name in value.split(",") if name}
    unknown = sorted(excluded - {entry.name for entry in report.entries})
    if excluded:
        # An entry that is not a check (draining, a failed liveness watch) cannot be excluded.
        excluded = {entry.name for entry in report.entries if entry.name in excluded and LIFECYCLE not in entry.tags}
        included = [entry for entry in report.entries if entry.name not in excluded]
        state = build_report(report.probe, included, report.phase).state
        report = Report(report.probe, state, report.entries, report.phase)
    if "verbose" in query or _accepts_text(request):
        return _text_response(report, details, excluded, unknown)
    return _json_response(report, details, excluded, unknown)


def is_default_request(request: EndpointRequest) -> bool:
    """Return whether a request has no option that changes the response, as the requests of probes do."""
    return not request.query and not _accepts_text(request)


def redact_reason(reason: str, policy: RedactionPolicy) -> str:
    """Return a reason without secrets, truncated to `_MAX_REASON` characters."""
    text = policy.redact_text(reason[: 4 * _MAX_REASON])
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 3] + "..."


def _accepts_text(request: EndpointRequest) -> bool:
    return request.headers.get(b"accept", b"").startswith(b"text/plain")


def _parse_query(query: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError:  # more than 100 parameters
        return {}


def _json_response(report: Report, details: bool, excluded: set[str], unknown: list[str]) -> EndpointResponse:
    entries: dict[str, dict[str, Any]] = {}
    for entry in report.entries:
        content: dict[str, Any] = {"status": _STATUS_NAMES[entry.state], "duration": format_timespan(entry.duration)}
        if details and entry.reason:
            content["description"] = entry.reason
        data = _entry_data(entry) if details else {}
        if entry.name in excluded:
            data["excluded"] = True
        entries[entry.name] = {**content, "tags": list(entry.tags), "data": data}
    body: dict[str, Any] = {
        "status": _STATUS_NAMES[report.state],
        "totalDuration": format_timespan(sum(entry.duration for entry in report.entries)),
        "entries": entries,
        "ApplicationHealthState": "Healthy" if report.passes else "Unhealthy",
    }
    notes = [_unknown_checks_note(unknown)] if unknown else []
    if not details and not report.passes:
        notes.append(REASONS_NOTE)
    if notes:
        body["notes"] = notes
    return EndpointResponse(200 if report.passes else 503, JSON, orjson.dumps(body))


def _entry_data(entry: Entry) -> dict[str, Any]:
    """Return the details of a check besides its state."""
    if not entry.scope:
        return {}
    data: dict[str, Any] = {"critical": entry.critical, "scope": entry.scope}
    if entry.age is not None:
        checked = datetime.fromtimestamp(time.time() - entry.age, UTC).isoformat(timespec="milliseconds")
        data |= {"checked": checked.replace("+00:00", "Z"), "failures": entry.failures}
    return data


def _text_response(report: Report, details: bool, excluded: set[str], unknown: Iterable[str]) -> EndpointResponse:
    """Return the text format of the health endpoints of Kubernetes components."""
    lines = [_entry_line(entry, details, entry.name in excluded) for entry in report.entries]
    if unknown:
        lines.append(f"warn: {_unknown_checks_note(unknown)}")
    if not details and not report.passes:
        lines.append(f"note: {REASONS_NOTE}")
    lines.append(f"{report.probe} check {'passed' if report.passes else 'failed'}: {report.state}")
    body = ("\n".join(lines) + "\n").encode("utf-8", "replace")
    return EndpointResponse(200 if report.passes else 503, TEXT_PLAIN, body)


def _entry_line(entry: Entry, details: bool, excluded: bool) -> str:
    if excluded:
        return f"[+]{entry.name} excluded: ok"
    if entry.state is HealthState.HEALTHY:
        return f"[+]{entry.name} ok"
    is_unhealthy = entry.state is HealthState.UNHEALTHY
    reason = " ".join(entry.reason.split()) if details else "reason withheld"
    return f"[{'-' if is_unhealthy else '!'}]{entry.name} {'failed' if is_unhealthy else 'degraded'}: {reason}"


def _unknown_checks_note(names: Iterable[str]) -> str:
    return f"some health checks cannot be excluded: no matches for {', '.join(repr(name)[:100] for name in names)}"


@lru_cache(512)  # a duration changes when its check runs, and is formatted for each probe
def format_timespan(seconds: float) -> str:
    """Format seconds like a .NET TimeSpan: `00:00:00.0012345`."""
    ticks = round(max(seconds, 0) * 10_000_000)
    minutes, rest = divmod(ticks, 600_000_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 10_000_000:02d}.{rest % 10_000_000:07d}"
