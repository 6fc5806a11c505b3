"""Generated files are valid, respect the limits of their targets and are reproducible."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.servers import program_path

from connectsoft_obs import slo
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.ops.slo.rules import AZURE_LIMITS, AlertingRule
from connectsoft_obs.ops.slo.target_registry import TARGETS, generate_files
from connectsoft_obs.ops.slo.targets import azure, bicep
from connectsoft_obs.ops.slo.targets.yaml_writer import dump
from connectsoft_obs.slo.model import Source
from connectsoft_obs.slo.presets import PRESETS
from connectsoft_obs.vocabulary import Severity

text = st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["{{ .Nothing", "}}", "{{{", "$value", "a: b", "'", '"', "\\", "${x}", "[x]"]
)
names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True)
objectives = st.floats(0.01, 99.999).map(lambda value: round(value, 4))
slos = st.one_of(
    st.builds(slo.availability, names, objectives, routes=st.lists(text.filter(bool), max_size=2), description=text, owner=text),
    st.builds(slo.percentile, names, st.sampled_from([0.5, 0.95, 0.999]), under=st.sampled_from([0.25, 0.5, 5.0])),
    st.builds(slo.job_success_rate, names, objectives, job=text),
    st.builds(slo.message_success_rate, names, objectives, within=st.sampled_from([0.5, 5]), destination=text),
    st.builds(slo.freshness, names, objectives, job=text.filter(bool), within=st.sampled_from(["1h", "26h"])),
    st.builds(slo.outage, names, limit=st.sampled_from(["5m", "1h"]), allowed=st.integers(0, 3)),
    st.builds(slo.ratio, names, objectives, bad=st.just("sum(rate(a[{window}]))"), total=st.just("sum(rate(b[{window}]))")),
)  # fmt: skip


@st.composite
def declarations(draw: st.DrawFn) -> slo.ServiceSLOs:
    declared = draw(
        st.lists(slos, min_size=1, max_size=5, unique_by=lambda item: re.sub(r"[^a-z0-9]", "", item.name.lower()))
    )
    return slo.ServiceSLOs(
        service=draw(names),
        slos=tuple(declared),
        source=draw(st.sampled_from(list(Source))),
        team=draw(text),
        period=draw(st.sampled_from([7, 28, 30])) * 86400,
        review_at=draw(st.lists(st.integers(0, 100), max_size=25, unique=True).map(tuple)),
        scraped=draw(st.booleans()),
        always_on=draw(st.booleans()),
        dashboard_base=draw(st.sampled_from(["", "https://grafana.example"])),
    )


def all_presets(source: Source = Source.EVENTS) -> list[slo.ServiceSLOs]:
    return [slo.preset(name).replace(source=source) for name in PRESETS]


# --- YAML ------------------------------------------------------------------------------------------------------------

yaml_content = st.recursive(
    text | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(text, children, max_size=4),
    max_leaves=12,
)


@given(yaml_content)
def test_yaml_round_trip(value: Any) -> None:
    assert yaml.safe_load(dump(value)) == value


@pytest.mark.parametrize(
    "word",
    [
        "yes",
        "No",
        "null",
        "~",
        "1e3",
        "0o7",
        "0x1",
        "2026-01-01",
        "a: b",
        "a #b",
        "- a",
        "",
        " a",
        "*a",
        "&a",
        "!a",
        "=",
        "<<",
    ],
)
def test_yaml_quotes_text_that_looks_like_another_type(word: str) -> None:
    assert any(quote in dump([word]) for quote in ("'", '"'))
    assert yaml.safe_load(dump({"key": word, word: [word]})) == {"key": word, word: [word]}


def test_yaml_keeps_key_order_and_writes_multi_line_text_as_block() -> None:
    labels = {"b": "1", "a": "é"}
    expected = "expr: |-\n  a\n  and b\nlabels:\n  b: '1'\n  a: é\nsame:\n  b: '1'\n  a: é\n"
    assert dump({"expr": "a\nand b", "labels": labels, "same": labels}) == expected


# --- Prometheus ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", list(Source))
def test_promtool_accepts_rules_of_all_presets(tmp_path: Path, source: Source) -> None:
    for target in ("prometheus", "test"):
        for name, content in generate_files(target, all_presets(source)).items():
            (tmp_path / name).write_text(content)
    rules = sorted(str(path) for path in tmp_path.glob("*rules.yaml"))
    completed = subprocess.run(
        [program_path("promtool"), "check", "rules", *rules], capture_output=True, text=True, timeout=60
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert len(rules) > len(PRESETS)


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(declarations())
def test_promtool_accepts_rules_with_arbitrary_names_and_texts(service_slos: slo.ServiceSLOs) -> None:
    [content] = generate_files("prometheus", [service_slos]).values()
    completed = subprocess.run(
        [program_path("promtool"), "check", "rules", "--lint=none", "/dev/stdin"],
        input=content, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout + completed.stderr + content


def test_prometheus_rule_resource_has_the_rules_of_the_rules_file() -> None:
    service_slos = slo.preset("saas")
    [resource] = generate_files("prometheusrule", [service_slos]).values()
    [rules_file] = generate_files("prometheus", [service_slos]).values()
    parsed = yaml.safe_load(resource)
    assert (parsed["apiVersion"], parsed["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert parsed["metadata"]["name"] == "slo-saas"
    assert parsed["spec"] == yaml.safe_load(rules_file)


def test_alerts_have_severity_team_and_links() -> None:
    for service_slos in all_presets():
        for group in rule_groups(service_slos.replace(dashboard_base="https://grafana.example")):
            for alert in group.alerts:
                assert alert.labels["severity"] in list(Severity)
                assert alert.labels["team"] == service_slos.team
                assert alert.annotations["runbook_url"].startswith("https://company.connectsoft.dev/ops/runbooks/")
                assert alert.annotations["dashboard_url"].startswith("https://grafana.example/d/")
                assert {"summary", "description", "response"} <= alert.annotations.keys()
                assert "respond within" in alert.annotations["response"] or alert.severity is Severity.REVIEW


@pytest.mark.parametrize("target", TARGETS)
def test_equal_slos_give_equal_bytes(target: str) -> None:
    assert generate_files(target, all_presets()) == generate_files(target, all_presets())


# --- Azure -----------------------------------------------------------------------------------------------------------

# Fields of Microsoft.AlertsManagement/prometheusRuleGroups@2023-03-01, from the resource reference.
GROUP = {"description": str, "enabled": bool, "interval": str, "scopes": list, "rules": list, "clusterName": str}
RECORD = {"record": str, "expression": str, "enabled": bool, "labels": dict}
ALERT = {
    "alert": str, "expression": str, "for": str, "enabled": bool, "severity": int, "labels": dict, "annotations": dict,
    "resolveConfiguration": dict, "actions": str,
}  # fmt: skip
DURATION = re.compile(r"PT(?=\d)(\d+H)?(\d+M)?(\d+S)?")


@settings(max_examples=60, deadline=None)
@given(declarations())
def test_azure_rules_respect_documented_limits(service_slos: slo.ServiceSLOs) -> None:
    template = json.loads(azure.render_arm_template(service_slos))
    assert len({group["name"].lower() for group in template["resources"]}) == len(template["resources"])
    for group in template["resources"]:
        assert (group["type"], group["apiVersion"]) == ("Microsoft.AlertsManagement/prometheusRuleGroups", "2023-03-01")
        assert re.fullmatch(r"[^:@/#{}%&+*<>?]{1,260}", group["name"])
        properties = group["properties"]
        assert_documented_fields(properties, GROUP)
        assert properties["interval"] == "PT1M"
        assert 1 <= len(properties["rules"]) <= 20
        for rule in properties["rules"]:
            assert_documented_fields(rule, ALERT if "alert" in rule else RECORD)
            assert len(rule["labels"]) <= 10
            assert "__name__" not in rule["expression"]
            for window in re.findall(r"\[([0-9a-z]+)[:\]]", re.sub(r'"(?:[^"\\]|\\.)*"', "", rule["expression"])):
                assert slo.durations.parse_duration(window, "window") <= 32 * 86400
            if "alert" in rule:
                assert 0 <= rule["severity"] <= 4
                assert DURATION.fullmatch(rule["for"])
                assert "{{ with query" not in json.dumps(rule["annotations"])


def assert_documented_fields(content: dict[str, Any], fields: dict[str, type]) -> None:
    for key, value in content.items():
        assert key in fields, key
        assert type(value) is fields[key], (key, value)


def test_period_beyond_azure_query_limit_is_rejected() -> None:
    service_slos = slo.preset("saas").replace(period=90 * 86400)
    with pytest.raises(ConfigurationError, match="queries over at most 32 d"):
        azure.render_arm_template(service_slos)
    assert rule_groups(service_slos), "Prometheus has no limit"


def test_recording_rules_precede_alerts_in_split_groups() -> None:
    for service_slos in all_presets():
        groups = rule_groups(service_slos, AZURE_LIMITS)
        for group in groups:
            is_alert = [isinstance(rule, AlertingRule) for rule in group.rules]
            assert is_alert == sorted(is_alert)
        assert sum(len(group.rules) for group in groups) == sum(len(group.rules) for group in rule_groups(service_slos))


def test_alerts_of_each_severity_have_separate_action_groups() -> None:
    template = json.loads(azure.render_arm_template(slo.preset("identity")))
    actions = {
        rule["severity"]: rule["actions"]
        for group in template["resources"]
        for rule in group["properties"]["rules"]
        if "alert" in rule
    }
    names = [severity.lower() for severity in Severity]
    assert actions == {number: f"[variables('{name}Actions')]" for number, name in enumerate(names, 1)}
    parameters = {f"{name}ActionGroupIds" for name in names}
    assert template["parameters"].keys() == {"azureMonitorWorkspaceId", "location"} | parameters
    module = generate_files("azure-action-groups", [])["action-groups.bicep"]
    assert set(re.findall(r"^output (\w+) array", module, re.MULTILINE)) == parameters
    assert re.findall(r"^@secure\(\)\nparam (\w+) object$", module, re.MULTILINE) == [f"{n}Receivers" for n in names]
    assert all(len(name) <= 12 for name in re.findall(r"groupShortName: '(.*)'", module))


@given(
    st.text(alphabet=st.characters(blacklist_categories=["Cs"])) | st.sampled_from(["${a}", "\\${", "'", "\\", "$'{"])
)
def test_bicep_string_round_trip(value: str) -> None:
    literal = bicep.format_string(value)
    assert "\n" not in literal
    assert parse_bicep_string(literal) == value


@given(st.text(max_size=10) | st.sampled_from(["[x]", "[[x]]", "["]))
def test_arm_string_is_never_an_expression(value: str) -> None:
    escaped = azure.escape_arm_string(value)
    # Resource Manager evaluates text in brackets, and removes the first of two leading brackets.
    assert not (escaped.startswith("[") and not escaped.startswith("[["))
    assert (escaped[1:] if escaped.startswith("[[") else escaped) == value


@settings(max_examples=20, deadline=None)
@given(declarations())
def test_bicep_and_arm_have_the_same_content(service_slos: slo.ServiceSLOs) -> None:
    template = json.loads(azure.render_arm_template(service_slos))
    source = azure.render_bicep(service_slos)
    strings = [parse_bicep_string(literal) for literal in re.findall(r"'(?:[^'\\\n]|\\.)*'", source)]
    for group in template["resources"]:
        assert group["name"] in strings
        for rule in group["properties"]["rules"]:
            assert rule["expression"].replace("[[", "[", rule["expression"].startswith("[[")) in strings
            for value in rule["labels"].values():
                assert value.replace("[[", "[", value.startswith("[[")) in strings
    assert source.count("resource group") == len(template["resources"])
    assert has_balanced_brackets(source)


def parse_bicep_string(literal: str) -> str:
    """Parse a single-quoted string as Bicep's language reference defines it; interpolation fails the test."""
    assert literal[0] == literal[-1] == "'"
    body, text, position = literal[1:-1], "", 0
    while position < len(body):
        if body[position] == "\\":
            if body[position + 1] == "u":
                end = body.index("}", position)
                text += chr(int(body[position + 3 : end], 16))
                position = end + 1
                continue
            text += {"\\": "\\", "'": "'", "n": "\n", "r": "\r", "t": "\t", "$": "$"}[body[position + 1]]
            position += 2
        else:
            assert body[position] != "'"
            assert body[position : position + 2] != "${", "interpolation"
            text += body[position]
            position += 1
    return text


def has_balanced_brackets(source: str) -> bool:
    without_strings = re.sub(r"'(?:[^'\\\n]|\\.)*'", "", source)
    depth = 0
    for character in without_strings:
        depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


# --- Dashboards and runbooks -----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(declarations())
def test_dashboards_have_valid_uids_and_panels_do_not_overlap(service_slos: slo.ServiceSLOs) -> None:
    for name, content in generate_files("grafana", [service_slos, slo.preset("bot")]).items():
        dashboard = json.loads(content)
        assert len(dashboard["uid"]) <= 40
        assert re.fullmatch(r"[a-z0-9-]+", dashboard["uid"])
        assert dashboard["id"] is None
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
        occupied: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            position = panel["gridPos"]
            assert position["x"] + position["w"] <= 24
            cells = {
                (x, y)
                for x in range(position["x"], position["x"] + position["w"])
                for y in range(position["y"], position["y"] + position["h"])
            }
            assert not cells & occupied, (name, panel["title"])
            occupied |= cells
            if panel["type"] != "row":
                assert panel["datasource"]["uid"] == "${datasource}"
                assert panel["targets"]


def test_dashboard_url_of_alerts_is_a_generated_dashboard() -> None:
    for service_slos in all_presets():
        service_slos = service_slos.replace(dashboard_base="https://grafana.example")
        uids = {json.loads(content)["uid"] for content in generate_files("grafana", [service_slos]).values()}
        for group in rule_groups(service_slos):
            for alert in group.alerts:
                if group.slo_id != service_slos.service:
                    assert alert.annotations["dashboard_url"].split("/d/")[1].split("?")[0] in uids


def test_runbook_url_of_alerts_is_a_generated_runbook_with_all_sections() -> None:
    for service_slos in all_presets():
        pages = generate_files("runbook", [service_slos])
        for group in rule_groups(service_slos):
            for alert in group.alerts:
                name = alert.annotations["runbook_url"].rsplit("/", 1)[1].replace(".html", ".md")
                if not any(group.slo_id == service_slos.slo_id(composite) for composite in service_slos.composites):
                    assert alert.name in pages[name]
        for page in pages.values():
            parts = ["## System overview", "### What it does", "### Key components", "### Dependencies",
                     "## Common symptoms and checks"]  # fmt: skip
            assert [page.index(part) for part in parts] == sorted(page.index(part) for part in parts)
            assert ("az monitor log-analytics query" in page) is ("fail, or take" in page or "is down" in page)
