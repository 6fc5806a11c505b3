"""Files of other tools become promises, and promises go out and come back as they were."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support.promtool_replay import Replay, counter
from support.servers import program

from connectsoft_obs import slo
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers import import_document
from connectsoft_obs.ops.slo.targets.registry import generated
from connectsoft_obs.slo.loader import to_toml
from connectsoft_obs.slo.presets import PRESETS

SLOTH = """
version: prometheus/v1
service: checkout
labels: {owner: payments}
slos:
  - name: availability
    objective: 99.9
    description: Most answers are no server errors.
    sli:
      events:
        error_query: sum(rate(http_requests_total{job="checkout",code=~"(5..|429)"}[{{.window}}]))
        total_query: sum(rate(http_requests_total{job="checkout"}[{{ .window }}]))
    alerting: {name: CheckoutErrors, page_alert: {labels: {severity: page}}}
  - name: satisfaction
    objective: 95
    sli:
      raw:
        error_ratio_query: |
          1 - sum(sum_over_time(happy_ratio[{{.window}}]))
          / sum(count_over_time(happy_ratio[{{.window}}]))
"""

PYRRA = """
apiVersion: pyrra.dev/v1alpha1
kind: ServiceLevelObjective
metadata: {name: gateway-errors, labels: {pyrra.dev/team: edge, pyrra.dev/service: gateway}}
spec:
  target: "99.5"
  window: 4w
  indicator:
    ratio:
      errors: {metric: 'gateway_requests_total{code=~"5.."}'}
      total: {metric: gateway_requests_total}
---
apiVersion: pyrra.dev/v1alpha1
kind: ServiceLevelObjective
metadata: {name: gateway-latency, labels: {pyrra.dev/service: gateway}}
spec:
  target: "99"
  window: 2w
  indicator:
    latency:
      success: {metric: 'gateway_seconds_bucket{le="1"}'}
      total: {metric: gateway_seconds_count}
---
apiVersion: pyrra.dev/v1alpha1
kind: ServiceLevelObjective
metadata: {name: gateway-probe, labels: {pyrra.dev/service: gateway}}
spec:
  target: "99"
  window: 30d
  indicator:
    bool_gauge: {metric: 'probe_success{job="gateway"}'}
---
apiVersion: pyrra.dev/v1alpha1
kind: ServiceLevelObjective
metadata: {name: gateway-native, labels: {pyrra.dev/service: gateway}}
spec:
  target: "95"
  window: 28d
  indicator:
    latencyNative: {latency: 500ms, total: {metric: gateway_native_seconds}}
"""

OPENSLO = """
apiVersion: openslo/v1
kind: SLI
metadata: {name: errors}
spec:
  ratioMetric:
    counter: true
    good: {metricSource: {type: Prometheus, spec: {query: 'sum(orders_total{state="done"})'}}}
    total: {metricSource: {type: Prometheus, spec: {query: orders_total}}}
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: orders}
spec:
  service: orders
  description: Orders end well.
  indicatorRef: errors
  timeWindow: [{duration: 4w, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.995}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: latency}
spec:
  service: orders
  indicator:
    spec:
      ratioMetric:
        counter: false
        bad: {metricSource: {type: Prometheus, spec: {query: 'sum(rate(slow_total[5m]))'}}}
        total: {metricSource: {type: Prometheus, spec: {query: 'sum(rate(all_total[5m]))'}}}
  timeWindow: [{duration: 30d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{targetPercent: 99}, {targetPercent: 99.9}]
"""


def read(text: str, service: str = "") -> list[slo.ServiceSLOs]:
    return import_document(list(yaml.safe_load_all(text)), service)


def test_sloths_files_are_read() -> None:
    [made] = read(SLOTH)
    assert (made.service, [one.name for one in made.slos]) == ("checkout", ["availability", "satisfaction"])
    first, second = made.slos
    assert (first.objective, first.owner, first.description) == (99.9, "payments", "Most answers are no server errors.")
    assert first.sli == slo.indicators.Ratio(
        bad='sum(rate(http_requests_total{job="checkout",code=~"(5..|429)"}[{window}]))',
        total='sum(rate(http_requests_total{job="checkout"}[{window}]))',
    )
    assert "{window}" in second.sli.bad  # type: ignore[union-attr]


def test_sloths_kubernetes_resource_says_the_same() -> None:
    resource = "apiVersion: sloth.slok.dev/v1\nkind: PrometheusServiceLevel\nmetadata: {name: x}\nspec:\n" + re.sub(
        r"(?m)^", "  ", SLOTH.replace("version: prometheus/v1\n", "").strip()
    ).replace("error_query", "errorQuery").replace("total_query", "totalQuery").replace(
        "error_ratio_query", "errorRatioQuery"
    )
    assert read(resource) == read(SLOTH)


def test_pyrras_resources_are_read() -> None:
    [made] = read(PYRRA)
    by_name = {one.name: one for one in made.slos}
    assert made.service == "gateway"
    assert made.period_of(by_name["gateway-errors"]) == 28 * 86400
    assert made.period_of(by_name["gateway-latency"]) == 14 * 86400
    assert by_name["gateway-errors"].owner == "edge"
    latency = by_name["gateway-latency"].sli
    assert latency.bad == 'sum(rate(gateway_seconds_count[{window}])) - sum(rate(gateway_seconds_bucket{le="1"}[{window}]))'  # type: ignore[union-attr]  # fmt: skip


def test_openslo_documents_are_read() -> None:
    [made] = read(OPENSLO)
    assert [(one.name, one.objective) for one in made.slos] == [
        ("orders", 99.5), ("latency-1", 99), ("latency-2", 99.9),
    ]  # fmt: skip
    assert made.slos[0].sli.total == "sum(rate(orders_total[{window}]))"  # type: ignore[union-attr]
    assert made.slos[1].sli.bad == "sum(rate(slow_total[{window}]))"  # type: ignore[union-attr]


@pytest.mark.parametrize("text", [SLOTH, PYRRA, OPENSLO], ids=["sloth", "pyrra", "openslo"])
def test_what_was_read_makes_rules_and_a_file(tmp_path: Path, text: str) -> None:
    [made] = read(text)
    (tmp_path / "slo.toml").write_text(to_toml(made))
    assert slo.load(tmp_path / "slo.toml") == made
    for name, content in generated("prometheus", [made]).items():
        (tmp_path / name).write_text(content)
        checked = subprocess.run(
            [program("promtool"), "check", "rules", str(tmp_path / name)], capture_output=True, text=True, timeout=30
        )
        assert checked.returncode == 0, checked.stderr


def test_a_budget_that_sloth_gets_wrong_is_right_after_the_move() -> None:
    """Its error series begins after ten hours: averaging five-minute ratios calls that 48 times what it is."""
    [made] = read(SLOTH)
    made = made.replace(slos=made.slos[:1], period=7 * 86400, selector='job="checkout"')
    total = 'http_requests_total{job="checkout",code="200"}'
    bad = 'http_requests_total{job="checkout",code="500"}'
    born = 36_000
    series = {
        total: counter((1, 10)),
        bad: lambda moment: float(min((moment - born) // 60, 60)) if moment >= born else None,
    }
    replay = Replay(made, series, 43_200, every=300)
    assert replay.value("slo:sli_error:ratio_rate7d") == pytest.approx(60 / 432_060, rel=0.05)


@pytest.mark.parametrize("name", PRESETS)
def test_promises_come_back_from_openslo_as_they_were(name: str) -> None:
    made = slo.preset(name)
    [text] = generated("openslo", [made]).values()
    assert read(text) == [made]


def test_openslo_documents_have_what_the_specification_asks_for() -> None:
    [text] = generated("openslo", [slo.preset("saas")]).values()
    for document in yaml.safe_load_all(text):
        assert document["apiVersion"] == "openslo/v1"
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,61}[a-z0-9]", document["metadata"]["name"])
        if document["kind"] != "SLO":
            continue
        spec = document["spec"]
        assert spec["budgetingMethod"] == "Occurrences"
        assert spec["timeWindow"] == [{"duration": "30d", "isRolling": True}]
        [objective] = spec["objectives"]
        assert 0 <= objective["targetPercent"] < 100
        metric = spec["indicator"]["spec"]["ratioMetric"]
        assert metric.keys() == {"counter", "bad", "total"}
        for part in ("bad", "total"):
            assert metric[part]["metricSource"]["type"] == "Prometheus"
            assert "rate(" not in metric[part]["metricSource"]["spec"]["query"], "a counter is the counter itself"


def test_another_tool_can_read_what_we_export() -> None:
    """Without our annotations the documents are read as those of strangers."""
    [text] = generated("openslo", [slo.preset("saas")]).values()
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        del document["metadata"]["annotations"]
    [made] = import_document(documents)
    assert [one.objective for one in made.slos] == [99.5, 95]
    assert made.slos[0].sli.bad.startswith("sum(rate(connectsoft_slo_events_total{")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SLOTH.replace("events:", "plugin:").replace("raw:", "plugin:"), "made by a plugin"),
        (SLOTH.replace("[{{.window}}]", ""), "no range"),
        (PYRRA.replace("ratio:", "ratio:\n      grouping: [handler]", 1), "several promises"),
        (PYRRA.replace("ratio:", "magic:", 1), "of no known kind"),
        (PYRRA.replace(", pyrra.dev/service: gateway", ""), "of which service"),
        (OPENSLO.replace("Occurrences", "Timeslices", 1), "not slices of time"),
        (OPENSLO.replace("isRolling: true", "calendar: {startTime: 2026-01-01 00:00:00}", 1), "first of a month"),
        (OPENSLO.replace("ratioMetric", "thresholdMetric"), "threshold on a gauge"),
        (OPENSLO.replace("query:", "mql:"), "no PromQL query"),
        ("apiVersion: v1\nkind: Pod", "of no tool"),
        ("- 1", "it promises nothing"),
    ],
)
def test_what_cannot_be_taken_over_is_said_with_what_to_do(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(text)
    assert why in raised.value.why, raised.value
    assert raised.value.instead
