"""An import keeps labels, annotations and `disable` of alerts, and reports everything that it leaves out."""

from __future__ import annotations

import copy
import math
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli import run_slo_command
from support.servers import program_path

from connectsoft_obs import slo
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers import Omissions, import_documents, sloth
from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.ops.slo.rules import AlertingRule

QUERY = 'sum(rate(http_requests_total{job="checkout"}[{{.window}}]))'
SLOTH = f"""
version: prometheus/v1
service: checkout
labels: {{owner: payments, tier: "2"}}
slo_plugins: {{chain: [{{id: sloth.dev/contrib/denominator_corrected_rules/v1}}]}}
slos:
  - name: availability
    objective: 99.9
    labels: {{category: availability}}
    sli: {{events: {{error_query: '{QUERY}', total_query: '{QUERY.replace("total", "all")}'}}}}
    alerting:
      name: CheckoutErrors
      labels: {{routing: checkout}}
      annotations: {{summary: "Checkout fails", runbook: "https://runbooks.example/checkout"}}
      page_alert: {{labels: {{severity: critical, pager: "true"}}, annotations: {{phone: "7"}}}}
      ticket_alert: {{disable: true}}
"""
PYRRA = """
apiVersion: pyrra.dev/v1alpha1
kind: ServiceLevelObjective
metadata:
  name: errors
  namespace: monitoring
  labels: {pyrra.dev/service: gateway, pyrra.dev/team: edge, pyrra.dev/routing: edge, prometheus: k8s}
  annotations: {pyrra.dev/link: "https://wiki.example", other: x}
spec:
  target: "99.5"
  window: 4w
  performanceOverAccuracy: true
  alerting: {name: GatewayErrors, absent: false}
  indicator: {ratio: {errors: {metric: 'requests_total{code="500"}'}, total: {metric: requests_total}}}
"""
OPENSLO = """
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: paging}
spec: {}
---
apiVersion: openslo/v1
kind: SLO
metadata:
  name: orders
  labels: {routing: orders, "example.com/team": x, tags: [a, b]}
  annotations: {link: "https://wiki.example", "example.com/owner": y}
spec:
  service: orders
  indicator:
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {spec: {query: 'orders_total{state="done"}'}}}
        total: {metricSource: {spec: {query: orders_total}}}
  objectives: [{displayName: Most, target: 0.995}]
  alertPolicies: [paging]
"""
OPENSLO_V1ALPHA = """
apiVersion: openslo/v1alpha
kind: SLO
metadata: {name: orders, displayName: Orders}
spec:
  service: orders
  budgetingMethod: Occurrences
  timeWindows: [{count: 4, unit: Week, isRolling: true}]
  objectives:
    - displayName: Most
      target: 0.995
      ratioMetrics:
        incremental: true
        good: {source: prometheus, queryType: promql, query: 'orders_total{state="done"}'}
        total: {source: prometheus, queryType: promql, query: orders_total}
"""
VALUES: tuple[Any, ...] = (None, "x", -1, 10**400, math.nan, True, [], ["x"], [{}], {}, {"a": 1}, {1: "a"})


def import_text(text: str) -> tuple[slo.ServiceSLOs, list[str]]:
    omissions = Omissions()
    [service_slos] = import_documents(list(yaml.safe_load_all(text)), omissions=omissions)
    return service_slos, omissions.texts


def alerts(service_slos: slo.ServiceSLOs) -> dict[str, AlertingRule]:
    return {alert.name: alert for group in rule_groups(service_slos) for alert in group.alerts}


def test_sloth_labels_annotations_and_disable_are_kept() -> None:
    service_slos, omissions = import_text(SLOTH)
    by_name = alerts(service_slos)
    page, review = by_name["CheckoutAvailabilityBudgetBurn1h"], by_name["CheckoutAvailabilityBudgetGone"]
    kept = {"tier": "2", "category": "availability", "routing": "checkout"}
    assert kept.items() <= page.labels.items()
    assert kept.items() <= review.labels.items()
    assert (page.labels["pager"], page.labels["severity"], page.labels["team"]) == ("true", "Sev1", "payments")
    assert "pager" not in review.labels
    assert page.annotations["summary"] == "Checkout fails"
    assert (page.annotations["phone"], page.annotations["runbook"]) == ("7", "https://runbooks.example/checkout")
    assert "CheckoutAvailabilityBudgetBurn3d" not in by_name, "tickets are disabled"
    assert len(omissions) == 3, omissions
    assert all(any(text in omission for omission in omissions) for text in (
        "alert name CheckoutErrors", "page label severity='critical'", "denominator_corrected_rules",
    ))  # fmt: skip


def test_pyrra_labels_annotations_and_absent_are_kept() -> None:
    service_slos, omissions = import_text(PYRRA)
    by_name = alerts(service_slos)
    assert by_name["GatewayErrorsBudgetBurn1h"].labels["routing"] == "edge"
    assert by_name["GatewayErrorsBudgetBurn1h"].annotations["link"] == "https://wiki.example"
    assert "GatewayErrorsNoData" not in by_name
    assert len(omissions) == 5, omissions
    assert all(any(text in omission for omission in omissions) for text in (
        "namespace monitoring", "performanceOverAccuracy", "alert name GatewayErrors", "label prometheus", "annotation other",
    ))  # fmt: skip
    disabled, _ = import_text(PYRRA.replace("absent: false", "disabled: true"))
    assert {alert.severity.value for alert in alerts(disabled).values()} == {"review"}


def test_openslo_labels_and_annotations_are_kept() -> None:
    service_slos, omissions = import_text(OPENSLO)
    page = alerts(service_slos)["OrdersOrdersBudgetBurn1h"]
    assert (page.labels["routing"], page.annotations["link"]) == ("orders", "https://wiki.example")
    assert len(omissions) == 6, omissions
    assert all(any(text in omission for omission in omissions) for text in (
        "AlertPolicy", "alertPolicies", "displayName", "example.com/team", "tags", "example.com/owner",
    ))  # fmt: skip


def test_openslo_v1alpha_ratio_is_imported() -> None:
    service_slos, omissions = import_text(OPENSLO_V1ALPHA)
    [orders] = service_slos.slos
    assert (orders.objective, service_slos.period_seconds(orders)) == (99.5, 28 * 86400)
    assert isinstance(orders.sli, slo.indicators.Ratio)
    assert orders.sli.total == "sum(rate(orders_total[{window}]))"
    assert orders.sli.bad == f'{orders.sli.total} - sum(rate(orders_total{{state="done"}}[{{window}}]))'
    assert len(omissions) == 2, omissions
    threshold = OPENSLO_V1ALPHA.replace(
        "service: orders\n", "service: orders\n  indicator: {thresholdMetric: {query: x}}\n"
    )
    with pytest.raises(ConfigurationError, match="thresholdMetric of 'orders'"):
        import_text(threshold)


@pytest.mark.parametrize(
    "expression",
    [
        f"rollup_rate({QUERY})",
        f"{QUERY} default 0",
        f"{QUERY} keep_metric_names",
        f"WITH (x = {QUERY}) x",
        f'label_set({QUERY}, "a", "b")',
        f"median({QUERY})",
    ],
)
def test_error_names_the_metricsql_function(expression: str) -> None:
    text = yaml.safe_dump({
        "version": "prometheus/v1",
        "service": "a",
        "slos": [{"name": "b", "objective": 99, "sli": {"events": {"error_query": expression, "total_query": QUERY}}}],
    })  # fmt: skip
    with pytest.raises(ConfigurationError, match="is MetricsQL"):
        import_text(text)


@pytest.mark.parametrize(
    "expression",
    ['sum(rate(x{step="median(",if="default 0"}[5m])) by (if)', "sum(rate(x[5m] @ end())) / on () count(y)"],
)
def test_promql_with_similar_names_is_accepted(expression: str) -> None:
    text = yaml.safe_dump({
        "version": "prometheus/v1",
        "service": "a",
        "slos": [{"name": "b", "objective": 99, "sli": {"events": {"error_query": expression, "total_query": QUERY}}}],
    })  # fmt: skip
    assert len(import_text(text)[0].slos) == 1


@pytest.mark.parametrize("text", [SLOTH, PYRRA, OPENSLO, OPENSLO_V1ALPHA], ids=["sloth", "pyrra", "openslo", "v1alpha"])
def test_import_exits_with_3_and_the_result_passes_promtool(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.yaml").write_text(text)
    completed = run_slo_command("import", "other.yaml", "-o", ".", cwd=tmp_path)
    assert completed.returncode == 3, completed.stderr
    assert completed.stderr.splitlines() == import_text(text)[1]
    [file] = tmp_path.glob("*.slo.toml")
    assert slo.load(file) == import_text(text)[0]
    assert run_slo_command("generate", file.name, "-t", "prometheus", cwd=tmp_path).returncode == 0
    [rules] = tmp_path.glob("*.rules.yaml")
    checked = subprocess.run([program_path("promtool"), "check", "rules", str(rules)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in tables and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*prefix, key)
        yield from paths(item, (*prefix, key))


@pytest.mark.parametrize("text", [SLOTH, PYRRA, OPENSLO, OPENSLO_V1ALPHA], ids=["sloth", "pyrra", "openslo", "v1alpha"])
def test_wrong_type_in_an_imported_file_is_a_configuration_error(text: str) -> None:
    documents = list(yaml.safe_load_all(text))
    for path in paths(documents):
        for value in VALUES:
            changed = copy.deepcopy(documents)
            table: Any = changed
            for key in path[:-1]:
                table = table[key]
            table[path[-1]] = value
            with suppress(ConfigurationError):
                import_documents(changed, "shop")


@pytest.mark.parametrize(
    ("text", "before", "after", "message"),
    [
        (SLOTH, "objective: 99.9", "objective: high", "slos[0].objective = 'high' of the Sloth document 'checkout'"),
        (PYRRA, "target: ", "goal: ", "spec.target of the Pyrra document 'errors'"),
        (OPENSLO, "objectives:", "goals:", "spec.objectives of the OpenSLO document"),
        (OPENSLO_V1ALPHA, "target: ", "goal: ", "spec.objectives[0].target of the OpenSLO document 'orders'"),
    ],
)
def test_error_of_an_import_names_document_and_key(text: str, before: str, after: str, message: str) -> None:
    assert before in text
    with pytest.raises(ConfigurationError) as error:
        import_text(text.replace(before, after, 1))
    assert message in str(error.value)


def test_an_internal_error_of_an_importer_is_not_an_error_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sloth, "sanitize_name", lambda name: name.missing)
    with pytest.raises(AttributeError):
        import_text(SLOTH)


def test_complete_import_exits_with_0(tmp_path: Path) -> None:
    text = SLOTH.replace("      name: CheckoutErrors\n", "").replace("severity: critical, ", "")
    (tmp_path / "other.yaml").write_text("\n".join(line for line in text.splitlines() if "slo_plugins" not in line))
    completed = run_slo_command("import", "other.yaml", cwd=tmp_path)
    assert (completed.returncode, completed.stderr) == (0, "")
