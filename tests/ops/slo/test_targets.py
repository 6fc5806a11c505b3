"""Generated files: they parse, stay within the limits of what reads them, and are the same every time."""

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
from support.servers import program

from connectsoft_obs import slo
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.rule_groups import groups
from connectsoft_obs.ops.slo.rules import AZURE, AlertingRule
from connectsoft_obs.ops.slo.targets import azure, bicep
from connectsoft_obs.ops.slo.targets.registry import TARGETS, generated
from connectsoft_obs.ops.slo.targets.yaml import dump
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
def promises(draw: st.DrawFn) -> slo.ServiceSLOs:
    some = draw(
        st.lists(slos, min_size=1, max_size=5, unique_by=lambda one: re.sub(r"[^a-z0-9]", "", one.name.lower()))
    )
    return slo.ServiceSLOs(
        service=draw(names),
        slos=tuple(some),
        source=draw(st.sampled_from(list(Source))),
        team=draw(text),
        period=draw(st.sampled_from([7, 28, 30])) * 86400,
        review_at=draw(st.lists(st.integers(0, 100), max_size=25, unique=True).map(tuple)),
        scraped=draw(st.booleans()),
        always_on=draw(st.booleans()),
        dashboard_base=draw(st.sampled_from(["", "https://grafana.example"])),
    )


def everything(source: Source = Source.EVENTS) -> list[slo.ServiceSLOs]:
    return [slo.preset(name).replace(source=source) for name in PRESETS]


# --- YAML -------------------------------------------------------------------------------------------------------------

content = st.recursive(
    text | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


@given(content)
def test_yaml_says_what_it_was_given_to_every_other_reader(value: Any) -> None:
    assert yaml.safe_load(dump(value)) == value


@pytest.mark.parametrize(
    "word",
    [
        "yes",
        "No",
        "null",
        "~",
        "1e3",
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
def test_yaml_quotes_what_would_be_read_as_something_else(word: str) -> None:
    assert yaml.safe_load(dump({"key": word, word: [word]})) == {"key": word, word: [word]}


# --- Prometheus ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", list(Source))
def test_promtool_has_no_complaint_about_anything_generated(tmp_path: Path, source: Source) -> None:
    for target in ("prometheus", "test"):
        for name, made in generated(target, everything(source)).items():
            (tmp_path / name).write_text(made)
    rules = sorted(str(path) for path in tmp_path.glob("*.rules.yaml"))
    checked = subprocess.run(
        [program("promtool"), "check", "rules", *rules], capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert len(rules) > len(PRESETS)


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(promises())
def test_promtool_has_no_complaint_whatever_names_and_texts_people_choose(made: slo.ServiceSLOs) -> None:
    [content] = generated("prometheus", [made]).values()
    done = subprocess.run(
        [program("promtool"), "check", "rules", "--lint=none", "/dev/stdin"],
        input=content, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr + content


def test_a_prometheus_rule_is_the_same_rules_in_a_resource() -> None:
    made = slo.preset("saas")
    [resource] = generated("prometheusrule", [made]).values()
    [plain] = generated("prometheus", [made]).values()
    parsed = yaml.safe_load(resource)
    assert (parsed["apiVersion"], parsed["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert parsed["metadata"]["name"] == "slo-saas"
    assert parsed["spec"] == yaml.safe_load(plain)


def test_every_alert_says_how_urgent_it_is_what_to_read_and_whose_it_is() -> None:
    for made in everything():
        for group in groups(made.replace(dashboard_base="https://grafana.example")):
            for alert in group.alerts:
                assert alert.labels["severity"] in list(Severity)
                assert alert.labels["team"] == made.team
                assert alert.annotations["runbook_url"].startswith("https://company.connectsoft.dev/ops/runbooks/")
                assert alert.annotations["dashboard_url"].startswith("https://grafana.example/d/")
                assert {"summary", "description", "response"} <= alert.annotations.keys()
                assert "respond within" in alert.annotations["response"] or alert.severity is Severity.REVIEW


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_promises_give_the_same_bytes(target: str) -> None:
    assert generated(target, everything()) == generated(target, everything())


# --- Azure ----------------------------------------------------------------------------------------------------------------

# Fields of Microsoft.AlertsManagement/prometheusRuleGroups@2023-03-01 as the resource reference documents them.
GROUP = {"description": str, "enabled": bool, "interval": str, "scopes": list, "rules": list, "clusterName": str}
RECORD = {"record": str, "expression": str, "enabled": bool, "labels": dict}
ALERT = {
    "alert": str, "expression": str, "for": str, "enabled": bool, "severity": int, "labels": dict, "annotations": dict,
    "resolveConfiguration": dict, "actions": str,
}  # fmt: skip
DURATION = re.compile(r"PT(?=\d)(\d+H)?(\d+M)?(\d+S)?")


@settings(max_examples=60, deadline=None)
@given(promises())
def test_azure_rules_stay_within_every_documented_limit(made: slo.ServiceSLOs) -> None:
    template = json.loads(azure.arm(made))
    assert len({group["name"].lower() for group in template["resources"]}) == len(template["resources"])
    for group in template["resources"]:
        assert (group["type"], group["apiVersion"]) == ("Microsoft.AlertsManagement/prometheusRuleGroups", "2023-03-01")
        assert re.fullmatch(r"[^:@/#{}%&+*<>?]{1,260}", group["name"])
        properties = group["properties"]
        _has_only(properties, GROUP)
        assert properties["interval"] == "PT1M"
        assert 1 <= len(properties["rules"]) <= 20
        for rule in properties["rules"]:
            _has_only(rule, ALERT if "alert" in rule else RECORD)
            assert len(rule["labels"]) <= 10
            assert "__name__" not in rule["expression"]
            for window in re.findall(r"\[([0-9a-z]+)[:\]]", re.sub(r'"(?:[^"\\]|\\.)*"', "", rule["expression"])):
                assert slo.durations.seconds(window, "window") <= 32 * 86400
            if "alert" in rule:
                assert 0 <= rule["severity"] <= 4
                assert DURATION.fullmatch(rule["for"])
                assert "{{ with query" not in json.dumps(rule["annotations"])


def _has_only(content: dict[str, Any], fields: dict[str, type]) -> None:
    for key, value in content.items():
        assert key in fields, key
        assert type(value) is fields[key], (key, value)


def test_a_period_that_azure_cannot_look_back_over_is_refused() -> None:
    made = slo.preset("saas").replace(period=90 * 86400)
    with pytest.raises(ConfigurationError, match="looks back further than 32 d"):
        azure.arm(made)
    assert groups(made), "Prometheus can"


def test_records_stand_before_the_alerts_that_read_them_also_where_groups_are_split() -> None:
    for made in everything():
        split = groups(made, AZURE)
        for group in split:
            kinds = [isinstance(rule, AlertingRule) for rule in group.rules]
            assert kinds == sorted(kinds)
        assert sum(len(group.rules) for group in split) == sum(len(group.rules) for group in groups(made))


def test_pages_and_quiet_alerts_go_to_action_groups_of_their_own() -> None:
    template = json.loads(azure.arm(slo.preset("identity")))
    actions = {
        rule["severity"]: rule["actions"]
        for group in template["resources"]
        for rule in group["properties"]["rules"]
        if "alert" in rule
    }
    assert actions == {
        1: "[variables('pagingActions')]",
        2: "[variables('pagingActions')]",
        3: "[variables('quietActions')]",
        4: "[variables('quietActions')]",
    }
    assert {"azureMonitorWorkspaceId", "location", "actionGroupIds", "pagingActionGroupIds"} == template[
        "parameters"
    ].keys()


@given(
    st.text(alphabet=st.characters(blacklist_categories=["Cs"])) | st.sampled_from(["${a}", "\\${", "'", "\\", "$'{"])
)
def test_bicep_strings_come_back_through_a_parser_of_their_escapes(value: str) -> None:
    written = bicep.string(value)
    assert "\n" not in written
    assert unescaped(written) == value


@given(st.text(max_size=10) | st.sampled_from(["[x]", "[[x]]", "["]))
def test_text_of_arm_templates_is_never_an_expression(value: str) -> None:
    written = azure.arm_text(value)
    # Resource Manager evaluates text in brackets, and takes off the first of two at its beginning.
    assert not (written.startswith("[") and not written.startswith("[["))
    assert (written[1:] if written.startswith("[[") else written) == value


@settings(max_examples=20, deadline=None)
@given(promises())
def test_bicep_and_arm_say_the_same(made: slo.ServiceSLOs) -> None:
    template = json.loads(azure.arm(made))
    source = azure.bicep(made)
    strings = [unescaped(found) for found in re.findall(r"'(?:[^'\\\n]|\\.)*'", source)]
    for group in template["resources"]:
        assert group["name"] in strings
        for rule in group["properties"]["rules"]:
            assert rule["expression"].replace("[[", "[", rule["expression"].startswith("[[")) in strings
            for value in rule["labels"].values():
                assert value.replace("[[", "[", value.startswith("[[")) in strings
    assert source.count("resource group") == len(template["resources"])
    assert balanced(source)


def unescaped(literal: str) -> str:
    """What Bicep's language reference says a single-quoted string is; interpolation is an error here."""
    assert literal[0] == literal[-1] == "'"
    body, found, position = literal[1:-1], "", 0
    while position < len(body):
        if body[position] == "\\":
            if body[position + 1] == "u":
                end = body.index("}", position)
                found += chr(int(body[position + 3 : end], 16))
                position = end + 1
                continue
            found += {"\\": "\\", "'": "'", "n": "\n", "r": "\r", "t": "\t", "$": "$"}[body[position + 1]]
            position += 2
        else:
            assert body[position] != "'"
            assert body[position : position + 2] != "${", "interpolation"
            found += body[position]
            position += 1
    return found


def balanced(source: str) -> bool:
    bare = re.sub(r"'(?:[^'\\\n]|\\.)*'", "", source)
    depth = 0
    for character in bare:
        depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


# --- Dashboards and pages --------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(promises())
def test_dashboards_have_stable_identities_and_panels_that_do_not_overlap(made: slo.ServiceSLOs) -> None:
    for name, content in generated("grafana", [made, slo.preset("bot")]).items():
        board = json.loads(content)
        assert len(board["uid"]) <= 40
        assert re.fullmatch(r"[a-z0-9-]+", board["uid"])
        assert board["id"] is None
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, (name, panel["title"])
            taken |= cells
            if panel["type"] != "row":
                assert panel["datasource"]["uid"] == "${datasource}"
                assert panel["targets"]


def test_the_address_in_an_alert_is_that_of_a_generated_dashboard() -> None:
    for made in everything():
        made = made.replace(dashboard_base="https://grafana.example")
        uids = {json.loads(content)["uid"] for content in generated("grafana", [made]).values()}
        for group in groups(made):
            for alert in group.alerts:
                if group.about != made.service:
                    assert alert.annotations["dashboard_url"].split("/d/")[1].split("?")[0] in uids


def test_a_runbook_is_where_alerts_say_it_is_and_has_the_companys_parts() -> None:
    for made in everything():
        pages = generated("runbook", [made])
        for group in groups(made):
            for alert in group.alerts:
                name = alert.annotations["runbook_url"].rsplit("/", 1)[1].replace(".html", ".md")
                if not any(group.about == made.id(one) for one in made.composites):
                    assert alert.name in pages[name]
        for page in pages.values():
            parts = ["## System overview", "### What it does", "### Key components", "### Dependencies",
                     "## Common symptoms and checks"]  # fmt: skip
            assert [page.index(part) for part in parts] == sorted(page.index(part) for part in parts)
            assert ("az monitor log-analytics query" in page) is ("fail, or take" in page or "is down" in page)
