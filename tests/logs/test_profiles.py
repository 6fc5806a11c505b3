"""Each log profile against its golden file. `GOLDEN=write pytest tests/logs/test_profiles.py` rewrites the files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from support.log_format_cases import CASES, render_cases

from connectsoft_obs.signals.logs.profiles import PROFILES

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("profile", [*PROFILES, "console"])
def test_lines_equal_the_golden_file(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = render_cases(profile, monkeypatch).output.getvalue()
    path = GOLDEN / (f"{profile}.txt" if profile == "console" else f"{profile}.jsonl")
    if os.environ.get("GOLDEN") == "write":
        path.write_text(written)
    assert written == path.read_text()


@pytest.mark.parametrize("profile", list(PROFILES))
def test_each_line_is_a_json_object_without_duplicate_keys(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs), pairs
        return dict(pairs)

    written = render_cases(profile, monkeypatch).output.getvalue()
    lines = [json.loads(line, object_pairs_hook=reject_duplicates) for line in written.splitlines()]
    assert len(lines) == len(CASES) == 12


@pytest.mark.parametrize("profile", list(PROFILES))
def test_application_cannot_overwrite_reserved_keys(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = PROFILES[profile]
    written = render_cases(profile, monkeypatch).output.getvalue()
    line = json.loads(written.splitlines()[list(CASES).index("reserved keys and values that JSON cannot hold")])
    assert line[keys.timestamp].startswith("2026-11-24T08:25:00.123456")
    assert line[keys.message] == "unusual\nvalues"
    reserved = {"timestamp": "1999", "message": "other"}
    for key, value in reserved.items():
        if key in keys.leading_keys:
            assert line[f"attr.{key}"] == value
    if profile == "connectsoft":
        assert (line["service"], line["attr.service"], line["traceId"], line["attr.traceId"]) == (
            "orders-api", "other", None, "mine",
        )  # fmt: skip
    if profile == "ecs":  # Elasticsearch rejects a document with both `error` and `error.type`
        assert (line["attr.error"], line["attr.service"]) == ("text", "other")


def test_otel_profile_has_the_documented_leading_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.loads(line) for line in render_cases("otel", monkeypatch).output.getvalue().splitlines()]
    request_line = lines[1]
    assert list(request_line)[:10] == [
        "timestamp", "severity", "message", "logger", "trace_id", "span_id", "trace_flags",
        "service.name", "service.version", "deployment.environment.name",
    ]  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", request_line["timestamp"])
    assert re.fullmatch(r"[0-9a-f]{32}", request_line["trace_id"])
    assert re.fullmatch(r"[0-9a-f]{16}", request_line["span_id"])
    assert (request_line["trace_flags"], lines[2]["trace_flags"]) == ("01", "00")
    assert not {"trace_id", "span_id", "trace_flags"} & lines[0].keys()
    assert {line["severity"] for line in lines} <= {"DEBUG", "INFO", "WARN", "ERROR", "FATAL"}


def test_connectsoft_profile_has_dotnet_levels_and_required_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [json.loads(line) for line in render_cases("connectsoft", monkeypatch).output.getvalue().splitlines()]
    for line in lines:
        assert {
            "timestamp", "level", "message", "service", "operation", "environment", "version", "tenantId", "traceId",
            "correlationId",
        } <= line.keys()  # fmt: skip
    assert {line["level"] for line in lines} == {"Debug", "Information", "Warning", "Error"}
    assert (lines[1]["tenantId"], lines[1]["workflowId"], lines[1]["operation"]) == ("acme", "w-1", "GET /orders/{id}")
    assert lines[3]["httpResponseStatusCode"] == 200


def test_connectsoft_dimensions_are_on_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = render_cases("connectsoft", monkeypatch)
    operation, context = recorder.request()
    dimensions = ("execution", "tenant", "project", "module", "agent", "skill", "artifact", "workflow")
    operation.bind({f"{name}_id": f"{name}-1" for name in dimensions})
    recorder.pipeline.emit_with_context(context, 20, "an agent ran")
    line = json.loads(recorder.output.getvalue().splitlines()[-1])
    assert {key: line[key] for key in ("traceId", "environment", "version")} == {
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "environment": "production", "version": "1.4.0",
    }  # fmt: skip
    assert {line[f"{name}Id"] for name in dimensions} == {f"{name}-1" for name in dimensions}


def test_gcp_profile_has_the_special_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.loads(render_cases("gcp", monkeypatch).output.getvalue().splitlines()[1])
    assert line["logging.googleapis.com/trace"] == "projects/shop-project/traces/4bf92f3577b34da6a3ce929d0e0e4736"
    assert line["logging.googleapis.com/trace_sampled"] is True
    assert line["severity"] == "INFO"


def test_console_escapes_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = render_cases("console", monkeypatch)
    recorder.log.info("\x1b[2Jcleared\r", user="\x07bell")
    line = recorder.output.getvalue().splitlines()[-1]
    assert "\x1b[2J" not in line
    assert "\x07" not in line
    assert "\\x1b[2Jcleared" in line


@pytest.mark.parametrize(
    ("settings", "is_plain"),
    [({}, True), ({"log_tenant_id": "hash", "log_tenant_key": "k"}, False)],
    ids=["plain", "hashed"],
)
def test_tenant_ids_are_plain_or_hashed_on_all_lines(
    settings: dict[str, Any], is_plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.loads(line) for line in render_cases("otel", monkeypatch, **settings).output.getvalue().splitlines()]
    tenants = {line["connectsoft.tenant.id"] for line in lines if "connectsoft.tenant.id" in line}
    assert len(tenants) == 1
    [tenant] = tenants
    assert (tenant == "acme") is is_plain
    if not is_plain:
        assert re.fullmatch(r"[0-9a-f]{16}:h", tenant)
