"""Import of Sloth, Pyrra and OpenSLO files, and export to OpenSLO."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support.promtool_replay import RuleReplay, counter
from support.servers import program_path

from connectsoft_obs import slo
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers import import_documents
from connectsoft_obs.ops.slo.target_registry import generate_files
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


def import_yaml(text: str) -> list[slo.ServiceSLOs]:
    return import_documents(list(yaml.safe_load_all(text)))


def test_sloth_file_is_imported() -> None:
    [service_slos] = import_yaml(SLOTH)
    assert (service_slos.service, [item.name for item in service_slos.slos]) == (
        "checkout",
        ["availability", "satisfaction"],
    )
    first, second = service_slos.slos
    assert (first.objective, first.owner, first.description) == (99.9, "payments", "Most answers are no server errors.")
    assert first.sli == slo.indicators.Ratio(
        bad='sum(rate(http_requests_total{job="checkout",code=~"(5..|429)"}[{window}]))',
        total='sum(rate(http_requests_total{job="checkout"}[{window}]))',
    )
    assert "{window}" in second.sli.bad  # type: ignore[union-attr]


def test_sloth_kubernetes_resource_is_imported() -> None:
    resource = "apiVersion: sloth.slok.dev/v1\nkind: PrometheusServiceLevel\nmetadata: {name: x}\nspec:\n" + re.sub(
        r"(?m)^", "  ", SLOTH.replace("version: prometheus/v1\n", "").strip()
    ).replace("error_query", "errorQuery").replace("total_query", "totalQuery").replace(
        "error_ratio_query", "errorRatioQuery"
    )
    assert import_yaml(resource) == import_yaml(SLOTH)


def test_pyrra_resources_are_imported() -> None:
    [service_slos] = import_yaml(PYRRA)
    by_name = {item.name: item for item in service_slos.slos}
    assert service_slos.service == "gateway"
    assert service_slos.period_seconds(by_name["gateway-errors"]) == 28 * 86400
    assert service_slos.period_seconds(by_name["gateway-latency"]) == 14 * 86400
    assert by_name["gateway-errors"].owner == "edge"
    latency = by_name["gateway-latency"].sli
    assert latency.bad == 'sum(rate(gateway_seconds_count[{window}])) - sum(rate(gateway_seconds_bucket{le="1"}[{window}]))'  # type: ignore[union-attr]  # fmt: skip


def test_openslo_documents_are_imported() -> None:
    [service_slos] = import_yaml(OPENSLO)
    assert [(item.name, item.objective) for item in service_slos.slos] == [
        ("orders", 99.5), ("latency-1", 99), ("latency-2", 99.9),
    ]  # fmt: skip
    assert service_slos.slos[0].sli.total == "sum(rate(orders_total[{window}]))"  # type: ignore[union-attr]
    assert service_slos.slos[1].sli.bad == "sum(rate(slow_total[{window}]))"  # type: ignore[union-attr]


@pytest.mark.parametrize("text", [SLOTH, PYRRA, OPENSLO], ids=["sloth", "pyrra", "openslo"])
def test_imported_slos_convert_to_toml_and_valid_rules(tmp_path: Path, text: str) -> None:
    [service_slos] = import_yaml(text)
    (tmp_path / "slo.toml").write_text(to_toml(service_slos))
    assert slo.load(tmp_path / "slo.toml") == service_slos
    for name, content in generate_files("prometheus", [service_slos]).items():
        (tmp_path / name).write_text(content)
        completed = subprocess.run(
            [program_path("promtool"), "check", "rules", str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert completed.returncode == 0, completed.stderr


def test_error_budget_of_an_imported_sloth_slo_is_exact() -> None:
    """The error series starts after ten hours. Averages of five-minute ratios, as in Sloth, are 48 times too high."""
    [service_slos] = import_yaml(SLOTH)
    service_slos = service_slos.replace(slos=service_slos.slos[:1], period=7 * 86400, selector='job="checkout"')
    total = 'http_requests_total{job="checkout",code="200"}'
    bad = 'http_requests_total{job="checkout",code="500"}'
    series_start = 36_000
    series = {
        total: counter((1, 10)),
        bad: lambda time: float(min((time - series_start) // 60, 60)) if time >= series_start else None,
    }
    replay = RuleReplay(service_slos, series, 43_200, evaluation_interval=300)
    assert replay.value("slo:sli_error:ratio_rate7d") == pytest.approx(60 / 432_060, rel=0.05)


@pytest.mark.parametrize("name", PRESETS)
def test_openslo_round_trip(name: str) -> None:
    service_slos = slo.preset(name)
    [text] = generate_files("openslo", [service_slos]).values()
    assert import_yaml(text) == [service_slos]


def test_exported_openslo_documents_follow_the_specification() -> None:
    [text] = generate_files("openslo", [slo.preset("saas")]).values()
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
            assert "rate(" not in metric[part]["metricSource"]["spec"]["query"], (
                "counter: true expects the counter without rate"
            )


def test_exported_openslo_documents_import_without_annotations() -> None:
    """Other tools ignore the annotations of this package."""
    [text] = generate_files("openslo", [slo.preset("saas")]).values()
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        del document["metadata"]["annotations"]
    [service_slos] = import_documents(documents)
    assert [item.objective for item in service_slos.slos] == [99.5, 95]
    assert service_slos.slos[0].sli.bad.startswith("sum(rate(connectsoft_slo_events_total{")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SLOTH.replace("events:", "plugin:").replace("raw:", "plugin:"), "it uses a plugin"),
        (SLOTH.replace("[{{.window}}]", ""), "no range"),
        (PYRRA.replace("ratio:", "ratio:\n      grouping: [handler]", 1), "separate SLO for each label value"),
        (PYRRA.replace("ratio:", "magic:", 1), "its kind is not supported"),
        (PYRRA.replace(", pyrra.dev/service: gateway", ""), "does not name its service"),
        (OPENSLO.replace("Occurrences", "Timeslices", 1), "time slices are not supported"),
        (
            OPENSLO.replace("isRolling: true", "calendar: {startTime: 2026-01-01 00:00:00}", 1),
            "calendar windows are not supported",
        ),
        (OPENSLO.replace("ratioMetric", "thresholdMetric"), "threshold on a gauge"),
        (OPENSLO.replace("query:", "mql:"), "no PromQL query"),
        ("apiVersion: v1\nkind: Pod", "its format is not supported"),
        ("- 1", "it contains no SLO"),
    ],
)
def test_unsupported_documents_are_rejected_with_reason_and_advice(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        import_yaml(text)
    assert reason in raised.value.why, raised.value
    assert raised.value.instead
