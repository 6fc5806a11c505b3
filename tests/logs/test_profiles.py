"""Each profile against its golden file; `GOLDEN=write pytest tests/logs/test_profiles.py` writes them anew."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from support.log_format_cases import SITUATIONS, told

from connectsoft_obs.signals.logs.profiles import PROFILES

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("profile", [*PROFILES, "console"])
def test_the_twelve_situations_are_as_in_the_golden_file(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = told(profile, monkeypatch).written.getvalue()
    path = GOLDEN / (f"{profile}.txt" if profile == "console" else f"{profile}.jsonl")
    if os.environ.get("GOLDEN") == "write":
        path.write_text(written)
    assert written == path.read_text()


@pytest.mark.parametrize("profile", list(PROFILES))
def test_every_line_is_one_json_object_with_each_key_once(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs), pairs
        return dict(pairs)

    written = told(profile, monkeypatch).written.getvalue()
    lines = [json.loads(line, object_pairs_hook=once) for line in written.splitlines()]
    assert len(lines) == len(SITUATIONS) == 12


@pytest.mark.parametrize("profile", list(PROFILES))
def test_a_caller_cannot_overwrite_what_a_profile_says(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = PROFILES[profile]
    written = told(profile, monkeypatch).written.getvalue()
    line = json.loads(written.splitlines()[list(SITUATIONS).index("reserved keys and values that JSON cannot hold")])
    assert line[table.timestamp].startswith("2026-11-24T08:25:00.123456")
    assert line[table.message] == "unusual\nvalues"
    reserved = {"timestamp": "1999", "message": "other"}
    for key, value in reserved.items():
        if key in table.head:
            assert line[f"attr.{key}"] == value
    if profile == "connectsoft":
        assert (line["service"], line["attr.service"], line["traceId"], line["attr.traceId"]) == (
            "orders-api", "other", None, "mine",
        )  # fmt: skip
    if profile == "ecs":  # `error` beside `error.type` would make Elasticsearch refuse the document
        assert (line["attr.error"], line["attr.service"]) == ("text", "other")


def test_the_otel_profile_has_the_documented_head_and_types(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.loads(line) for line in told("otel", monkeypatch).written.getvalue().splitlines()]
    inside = lines[1]
    assert list(inside)[:10] == [
        "timestamp", "severity", "message", "logger", "trace_id", "span_id", "trace_flags",
        "service.name", "service.version", "deployment.environment.name",
    ]  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", inside["timestamp"])
    assert re.fullmatch(r"[0-9a-f]{32}", inside["trace_id"])
    assert re.fullmatch(r"[0-9a-f]{16}", inside["span_id"])
    assert (inside["trace_flags"], lines[2]["trace_flags"]) == ("01", "00")
    assert not {"trace_id", "span_id", "trace_flags"} & lines[0].keys()
    assert {line["severity"] for line in lines} <= {"DEBUG", "INFO", "WARN", "ERROR", "FATAL"}


def test_the_connectsoft_profile_has_dotnet_words_and_what_every_line_there_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [json.loads(line) for line in told("connectsoft", monkeypatch).written.getvalue().splitlines()]
    for line in lines:
        assert {
            "timestamp", "level", "message", "service", "operation", "environment", "version", "tenantId", "traceId",
            "correlationId",
        } <= line.keys()  # fmt: skip
    assert {line["level"] for line in lines} == {"Debug", "Information", "Warning", "Error"}
    assert (lines[1]["tenantId"], lines[1]["workflowId"], lines[1]["operation"]) == ("acme", "w-1", "GET /orders/{id}")
    assert lines[3]["httpResponseStatusCode"] == 200


def test_the_eleven_dimensions_of_the_factory_are_on_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = told("connectsoft", monkeypatch)
    operation, context = stage.request()
    bound = ("execution", "tenant", "project", "module", "agent", "skill", "artifact", "workflow")
    operation.bind({f"{word}_id": f"{word}-1" for word in bound})
    stage.stream.emit_with_context(context, 20, "an agent ran")
    line = json.loads(stage.written.getvalue().splitlines()[-1])
    assert {key: line[key] for key in ("traceId", "environment", "version")} == {
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "environment": "production", "version": "1.4.0",
    }  # fmt: skip
    assert {line[f"{word}Id"] for word in bound} == {f"{word}-1" for word in bound}


def test_gcp_has_the_special_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.loads(told("gcp", monkeypatch).written.getvalue().splitlines()[1])
    assert line["logging.googleapis.com/trace"] == "projects/shop-project/traces/4bf92f3577b34da6a3ce929d0e0e4736"
    assert line["logging.googleapis.com/trace_sampled"] is True
    assert line["severity"] == "INFO"


def test_the_console_has_no_control_characters_of_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = told("console", monkeypatch)
    stage.log.info("\x1b[2Jcleared\r", who="\x07bell")
    last = stage.written.getvalue().splitlines()[-1]
    assert "\x1b[2J" not in last
    assert "\x07" not in last
    assert "\\x1b[2Jcleared" in last


@pytest.mark.parametrize(
    ("names", "settings", "plain"),
    [("plain", {}, True), ("hash", {"log_tenant_id": "hash", "log_tenant_key": "k"}, False)],
)
def test_tenant_ids_are_plain_or_hashed_alike_everywhere(
    names: str, settings: dict[str, Any], plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.loads(line) for line in told("otel", monkeypatch, **settings).written.getvalue().splitlines()]
    tenants = {line["connectsoft.tenant.id"] for line in lines if "connectsoft.tenant.id" in line}
    assert len(tenants) == 1, names
    [tenant] = tenants
    assert (tenant == "acme") is plain
    if not plain:
        assert re.fullmatch(r"[0-9a-f]{16}:h", tenant)
