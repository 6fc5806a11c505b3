"""Generated files in the programs that read them: Prometheus with a history, Alertmanager and a service under load."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import slo_service
from support.alertmanager import run_alertmanager
from support.dashboard_renderer import render_dashboard
from support.process import APPS, Service, uvicorn, wait_for
from support.prometheus_backfill import counter_samples, prometheus_with_history, tile_samples
from support.servers import Prometheus

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.burn_rate_windows import burn_rate_windows
from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.ops.slo.target_registry import generate_files

DAY = 86400
RATE = 20.0
"""Requests per second, in the history and of the load generator."""
ALERTMANAGER_CONFIGURATION = generate_files("alertmanager", [slo_service.SERVICE_SLOS])["alertmanager.yaml"]


def without_errors(_: float) -> tuple[float, float]:
    return RATE, 0.0


@contextmanager
def load(service: Service) -> Iterator[None]:
    """Send requests at a constant rate in a thread, and ignore failures."""
    stop = threading.Event()

    def send() -> None:
        start = time.monotonic()
        with httpx.Client(timeout=5) as client:
            for index in range(10**9):
                if stop.wait(max(0.0, start + index / RATE - time.monotonic())):
                    return
                try:
                    client.get(f"{service.url}/buy")
                except httpx.TransportError:
                    continue

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def alert_labels(name: str) -> dict[str, str]:
    """Return the labels with which Prometheus sends an alert."""
    alert = next(
        alert for group in rule_groups(slo_service.SERVICE_SLOS) for alert in group.alerts if alert.name == name
    )
    return {"alertname": name, **{key: value for key, value in alert.labels.items() if "{{" not in value}}


def test_alertmanager_inhibits_less_urgent_alerts_of_the_same_slo() -> None:
    with run_alertmanager(ALERTMANAGER_CONFIGURATION) as manager:
        manager.send_alerts(
            *map(alert_labels, ("ShopBuyingBudgetBurn1h", "ShopBuyingBudgetBurn6h", "ShopBuyingBudgetBurn3d")),
            *map(alert_labels, ("ShopBuyingBudgetGone", "ShopQuickBudgetBurn6h", "ShopQuickBudgetBurn3d")),
        )
        expected = {
            "ShopBuyingBudgetBurn1h": "active",
            "ShopBuyingBudgetBurn6h": "suppressed",
            "ShopBuyingBudgetBurn3d": "suppressed",
            "ShopBuyingBudgetGone": "active",
            "ShopQuickBudgetBurn6h": "active",
            "ShopQuickBudgetBurn3d": "suppressed",
        }
        wait_for(lambda: manager.alert_states() == expected, 10, f"inhibited as {expected}")
        manager.send_alerts(*map(alert_labels, ("ShopBuyingNoData", "ShopQuickNoData", "ShopExportRefused")))
        expected |= {"ShopBuyingNoData": "suppressed", "ShopQuickNoData": "active", "ShopExportRefused": "active"}
        wait_for(lambda: manager.alert_states() == expected, 10, f"no alert about data inhibits another: {expected}")
        manager.send_alerts(alert_labels("ShopOpenOutageInProgress"))
        expected |= {"ShopOpenOutageInProgress": "active", "ShopQuickNoData": "suppressed"}
        expected |= {"ShopExportRefused": "suppressed"}
        wait_for(lambda: manager.alert_states() == expected, 10, f"an outage inhibits alerts about data: {expected}")


def test_stalled_telemetry_alerts_and_has_no_error_ratio() -> None:
    service_slos = slo.ServiceSLOs(
        service="far", slos=(slo.availability("api", 99.9),), scraped=False, interval=1, scrape_interval=15
    )
    now = int(time.time())
    start, stalled_at = now - 7200, now - 1200

    def rates(at: float) -> tuple[float, float]:
        return RATE if at < stalled_at else 0.0, 0.0

    history = [*counter_samples({"api": rates}, 'job="far"', start, now)]
    history.append("# TYPE connectsoft_obs_export_duration_seconds histogram")
    labels = 'job="far",connectsoft_obs_signal="metrics"'
    for at in range(start, now, 15):
        exports = (min(at, stalled_at) - start) // 15
        history.append(f'connectsoft_obs_export_duration_seconds_bucket{{{labels},le="+Inf"}} {exports} {at}')
        history.append(f"connectsoft_obs_export_duration_seconds_count{{{labels}}} {exports} {at}")
    with prometheus_with_history(service_slos, history) as server:
        alerts = wait_for(lambda: server.query('ALERTS{alertname="FarTelemetryStalled"}'), 20, "the alert exists")
        assert alerts[0]["metric"]["alertstate"] == "firing"
        assert alerts[0]["metric"]["severity"] == "Sev2"
        assert server.query('slo:sli_error:ratio_rate5m{slo="api"}') == []


@pytest.fixture(scope="module")
def server() -> Iterator[Prometheus]:
    """Prometheus with a month of history, which has scraped a service with traffic, failures and job runs."""
    now = int(time.time())
    rates = dict.fromkeys(("buying", "quick", "restock"), without_errors)
    history = [*tile_samples(slo_service.SERVICE_SLOS, rates, now - 31 * DAY, now - 300)]
    with uvicorn("slo_service:app") as service:
        service.wait_until_ready()
        targets = [f"127.0.0.1:{service.port}"]
        with prometheus_with_history(slo_service.SERVICE_SLOS, history, targets=targets) as prometheus, load(service):
            wait_for(prometheus.are_targets_up, 10)
            httpx.get(f"{service.url}/faults?fail=1")
            for fail in (0, 1):
                httpx.get(f"{service.url}/restock?fail={fail}")
            wait_for(lambda: prometheus.value('slo:sli_bad:increase1h{slo="buying"}'), 20, "failures are recorded")
            httpx.get(f"{service.url}/faults")
            for fail in (0, 1):
                httpx.get(f"{service.url}/restock?fail={fail}")
            runs = "sum(increase(connectsoft_job_duration_seconds_count[1h]))"
            wait_for(lambda: prometheus.value(runs), 20, "runs are scraped")
            wait_for(lambda: prometheus.query("slo:composite_burn_rate:ratio"), 20, "all rules were evaluated")
            yield prometheus


PANELS_WITHOUT_DATA = {
    "Messages": "the service consumes no messages",
    "Aborted requests": "no client disconnects",
    "Overdue by": "restock has no schedule",
    "Retries per hour": "no run is retried",
    "Failing checks": "the service has no health checks",
    "Outages left": "the limit of an outage is a window of five minutes",
    "Alerts": "the burn rate alerts may not fire yet",
}
"""Titles of rows and panels, and why they may have no data."""


@pytest.mark.parametrize("name", ["shop-slo", "shop-red", "shop-workers", "platform"])
def test_dashboard_panels_have_data(server: Prometheus, name: str) -> None:
    dashboards = generate_files("grafana", [slo_service.SERVICE_SLOS, slo.preset("bot")])
    row, empty_panels = "", []
    for panel in json.loads(dashboards[f"{name}.dashboard.json"])["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        series_count = 0
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "10s").replace("$slo", "shop-buying")
            expression = re.sub(r"\$(?!\{)[a-z_]+", ".*", expression)
            series_count += len(server.query(expression))
        if not series_count and row not in PANELS_WITHOUT_DATA and panel["title"] not in PANELS_WITHOUT_DATA:
            empty_panels.append((row, panel["title"], [target["expr"] for target in panel["targets"]]))
    assert empty_panels == []


def write_previews(server: Prometheus) -> None:
    """Write pictures of the dashboards and a report for the documentation, if PREVIEWS names a directory."""
    if not (directory := os.environ.get("PREVIEWS")):
        return
    end = time.time()
    for name, content in generate_files("grafana", [slo_service.SERVICE_SLOS, slo.preset("bot")]).items():
        if not name.startswith("bot"):
            variables = {"__rate_interval": "15s", "slo": "shop-buying"}
            svg = render_dashboard(json.loads(content), server, end - 780, end, variables)
            (Path(directory) / name.replace(".dashboard.json", ".svg")).write_text(svg)
    subprocess.run(
        [
            sys.executable, "-m", "connectsoft_obs", "slo", "report", "slo_service:SERVICE_SLOS",
            "--prometheus", server.url, "-o", directory,
        ],
        check=True, env={**os.environ, "PYTHONPATH": str(APPS)}, timeout=120,
    )  # fmt: skip


@pytest.mark.full
def test_burn_rate_and_outage_alerts_fire_and_resolve_in_time() -> None:
    """Takes nine minutes: real scrapes and evaluations every second, a month of history, and 20 requests per second."""
    [buying] = [item for item in slo_service.SERVICE_SLOS.slos if item.name == "buying"]
    sev1_window, sev2_window = burn_rate_windows(slo_service.SERVICE_SLOS, buying)[:2]
    delays: dict[str, float] = {}
    with uvicorn("slo_service:app") as service, run_alertmanager(ALERTMANAGER_CONFIGURATION) as manager:
        service.wait_until_ready()
        target = f"127.0.0.1:{service.port}"
        now, names = int(time.time()), ("buying", "quick", "open")
        tile_rates = dict.fromkeys(names[:2], without_errors)
        counter_rates = dict.fromkeys(names, without_errors)
        history = [
            *tile_samples(slo_service.SERVICE_SLOS, tile_rates, now - 31 * DAY, now - 15),
            *counter_samples(counter_rates, f'job="shop",instance="{target}"', now - 7 * 3600, now),
        ]
        with (
            prometheus_with_history(
                slo_service.SERVICE_SLOS, history, targets=[target], alertmanager=manager.address
            ) as server,
            load(service),
        ):

            def firing_alerts() -> set[str]:
                alerts = httpx.get(f"{server.url}/api/v1/alerts", timeout=5).json()["data"]["alerts"]
                return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

            def wait_until_fires(start: float, name: str, seconds: float) -> float:
                wait_for(lambda: name in firing_alerts(), seconds, f"{name} fires")
                return time.monotonic() - start

            def wait_until_resolved(start: float, name: str, seconds: float) -> float:
                wait_for(lambda: name not in firing_alerts(), seconds, f"{name} resolves")
                return time.monotonic() - start

            wait_for(server.are_targets_up, 10)
            wait_for(lambda: server.query('slo:sli_error:ratio_rate6h{slo="buying"}'), 20)
            end = time.monotonic() + 20  # longer than the longest gap between the history and the first scrape
            while time.monotonic() < end:
                assert firing_alerts() == set(), "a healthy service alerts"
                time.sleep(0.5)

            httpx.get(f"{service.url}/faults?fail=1")
            failure_start = time.monotonic()
            delays["Sev1"] = wait_until_fires(failure_start, "ShopBuyingBudgetBurn1h", 90)
            delays["Sev2"] = wait_until_fires(failure_start, "ShopBuyingBudgetBurn6h", 180)
            wait_for(
                lambda: manager.alert_states().get("ShopBuyingBudgetBurn6h") == "suppressed", 20, "Sev1 inhibits Sev2"
            )
            wait_for(lambda: ("page-sev1", "ShopBuyingBudgetBurn1h") in manager.notifications, 60, "Sev1 is notified")
            assert ("page-sev2", "ShopBuyingBudgetBurn6h") not in manager.notifications
            httpx.get(f"{service.url}/faults")
            recovery = time.monotonic()
            delays["Sev1 resolved"] = wait_until_resolved(recovery, "ShopBuyingBudgetBurn1h", 400)
            wait_for(lambda: "ShopOpenOutageInProgress" not in firing_alerts(), 60)

            service.stop(signal.SIGKILL)
            killed = time.monotonic()
            delays["killed"] = wait_until_fires(killed, "ShopOpenOutageInProgress", 180)
            write_previews(server)
    print(json.dumps({name: round(seconds, 1) for name, seconds in delays.items()}))
    tolerance = 1 + 2 * 1 + 1  # a scrape, two evaluations, and the delay of the load generator and of this test
    sev1_time = sev1_window.detection_time(buying.error_budget)
    sev2_time = sev2_window.detection_time(buying.error_budget)
    assert sev1_time is not None
    assert sev2_time is not None
    assert sev1_time - 2 <= delays["Sev1"] <= sev1_time + tolerance
    assert sev2_time - 2 <= delays["Sev2"] <= sev2_time + tolerance
    assert delays["Sev1 resolved"] == pytest.approx(sev1_window.reset_time(buying.error_budget), abs=tolerance + 2)
    assert 120 <= delays["killed"] <= 120 + tolerance + 2
