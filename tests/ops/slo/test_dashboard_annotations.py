"""Deployments and restarts are marked on every generated dashboard, evaluated by Prometheus and merged as Grafana does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.prometheus_backfill import prometheus_with_history
from support.servers import Prometheus

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.target_registry import generate_files

MINUTE = 60
NOW = int(time.time()) // MINUTE * MINUTE
START = NOW - 180 * MINUTE
OTHER = slo.ServiceSLOs(service="other", slos=(slo.availability("api", 99.9),))
SHOP = slo.ServiceSLOs(
    service="shop", slos=(slo.availability("api", 99.9), slo.job_success_rate("nightly", 95, job="nightly"))
)
PUSHING = slo.ServiceSLOs(service="shop", slos=SHOP.slos, scraped=False)
INSTANCES = (
    # instance, version, first minute, last minute, minute of the process start
    ("a:1", "1.0", 0, 60, -500),
    ("b:1", "1.0", 0, 62, -500),
    ("c:1", "1.0", 0, 64, -500),
    ("d:1", "1.1", 60, 90, 60),  # a rolling deployment of three replicas
    ("e:1", "1.1", 62, 92, 62),
    ("f:1", "1.1", 64, 94, 64),
    ("f:1", "1.1", 97, 110, 96),  # one replica restarts alone, in an outage of three minutes
    ("g:1", "1.1", 105, 125, 104),  # one replica more
    ("h:1", "1.0", 120, 179, 119),  # a rollback to the first version
    ("i:1", "1.0", 150, 179, 149),  # another replica
)


def history() -> Iterator[str]:
    yield "# TYPE connectsoft_build_info gauge"
    for instance, version, first, last, _ in INSTANCES:
        labels = f'job="shop",instance="{instance}",service_version="{version}",connectsoft_revision="r{version}"'
        for at in range(START + first * MINUTE, START + last * MINUTE, 15):
            yield f"connectsoft_build_info{{{labels}}} 1 {at}"
    for first, last in ((0, 20), (100, 179)):  # another service returns with the same version after an outage
        labels = 'job="other",instance="z:1",service_version="3.0",connectsoft_revision="r3"'
        for at in range(START + first * MINUTE, START + last * MINUTE, 15):
            yield f"connectsoft_build_info{{{labels}}} 1 {at}"
    yield "# TYPE process_start_time_seconds gauge"
    for instance, _, first, last, start in INSTANCES:
        for at in range(START + first * MINUTE, START + last * MINUTE, 15):
            yield f'process_start_time_seconds{{job="shop",instance="{instance}"}} {START + start * MINUTE} {at}'


@pytest.fixture(scope="module")
def server() -> Iterator[Prometheus]:
    with prometheus_with_history(SHOP, [*history()]) as prometheus:
        yield prometheus


def drawn_annotations(
    server: Prometheus, dashboard: str, name: str, *services: slo.ServiceSLOs
) -> list[tuple[str, int]]:
    """Return label value and minute of each annotation that Grafana draws for the whole time."""
    content = json.loads(generate_files("grafana", services)[f"{dashboard}.dashboard.json"])
    [annotation] = [item for item in content["annotations"]["list"] if item["name"] == name]
    expression = annotation["expr"].replace("$__from", f"{START * 1000}")
    parameters: dict[str, Any] = {"query": expression, "start": START, "end": NOW, "step": 60}
    response = httpx.get(f"{server.url}/api/v1/query_range", params=parameters, timeout=20).json()
    assert response["status"] == "success", response
    label = "service_version" if name == "deployments" else "instance"
    marks: list[tuple[str, int]] = []
    for series in response["data"]["result"]:
        times = [float(value) / 1000 if annotation["useValueForTime"] else at for at, value in series["values"]]
        previous = None
        for at in times:
            if previous is None or at > previous + 60:
                marks.append((series["metric"][label], round((at - START) / MINUTE)))
            previous = at
    return sorted(marks, key=lambda mark: mark[1])


@pytest.mark.parametrize("dashboard", ["shop-slo", "shop-red", "shop-workers"])
def test_each_deployment_of_a_version_is_marked_once(server: Prometheus, dashboard: str) -> None:
    assert drawn_annotations(server, dashboard, "deployments", SHOP) == [("1.0", 0), ("1.1", 60), ("1.0", 120)]


def test_restarts_are_marked_at_their_time_per_instance(server: Prometheus) -> None:
    assert drawn_annotations(server, "shop-slo", "restarts", SHOP) == [("f:1", 96)]


def test_process_starts_of_a_pushing_service_are_marked_per_process(server: Prometheus) -> None:
    expected = [("d:1", 60), ("e:1", 62), ("f:1", 64), ("f:1", 96), ("g:1", 104), ("h:1", 119), ("i:1", 149)]
    assert drawn_annotations(server, "shop-slo", "process starts", PUSHING) == expected


def test_platform_dashboard_marks_deployments_of_all_services(server: Prometheus) -> None:
    expected = [("1.0", 0), ("3.0", 0), ("1.1", 60), ("1.0", 120)]
    assert sorted(drawn_annotations(server, "platform", "deployments", OTHER, SHOP)) == sorted(expected)
