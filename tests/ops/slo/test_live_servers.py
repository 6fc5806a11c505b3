"""Generated files on the servers that read them: Prometheus with a past, Alertmanager, a service under load."""

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
from support.alertmanager import alertmanager
from support.dashboard_renderer import preview
from support.process import APPS, Service, uvicorn, wait_for
from support.prometheus_backfill import counters, remembering, tiles
from support.servers import Prometheus

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.burn_rate_windows import pairs
from connectsoft_obs.ops.slo.rule_groups import groups
from connectsoft_obs.ops.slo.targets.registry import generated

DAY = 86400
RATE = 20.0
CONFIGURATION = generated("alertmanager", [slo_service.PROMISES])["alertmanager.yaml"]


def steady(_: float) -> tuple[float, float]:
    return RATE, 0.0


@contextmanager
def load(service: Service) -> Iterator[None]:
    """So many requests a second, whatever they bring."""
    stop = threading.Event()

    def send() -> None:
        began = time.monotonic()
        with httpx.Client(timeout=5) as client:
            for index in range(10**9):
                if stop.wait(max(0.0, began + index / RATE - time.monotonic())):
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


def labelled(name: str) -> dict[str, str]:
    """The labels that Prometheus would send with an alert."""
    alert = next(alert for group in groups(slo_service.PROMISES) for alert in group.alerts if alert.name == name)
    return {"alertname": name, **{key: value for key, value in alert.labels.items() if "{{" not in value}}


def test_what_is_urgent_silences_the_rest_of_its_promise_and_nothing_else() -> None:
    with alertmanager(CONFIGURATION) as manager:
        manager.send(
            *map(labelled, ("ShopBuyingBudgetBurn1h", "ShopBuyingBudgetBurn6h", "ShopBuyingBudgetBurn3d")),
            *map(labelled, ("ShopBuyingBudgetGone", "ShopQuickBudgetBurn6h", "ShopQuickBudgetBurn3d")),
        )
        expected = {
            "ShopBuyingBudgetBurn1h": "active",
            "ShopBuyingBudgetBurn6h": "suppressed",
            "ShopBuyingBudgetBurn3d": "suppressed",
            "ShopBuyingBudgetGone": "active",
            "ShopQuickBudgetBurn6h": "active",
            "ShopQuickBudgetBurn3d": "suppressed",
        }
        wait_for(lambda: manager.states() == expected, 10, f"inhibited as {expected}")
        manager.send(labelled("ShopOpenOutageInProgress"))
        wait_for(lambda: manager.states().get("ShopBuyingBudgetBurn1h") == "suppressed", 10, "the outage says it all")
        states = manager.states()
        assert states["ShopQuickBudgetBurn6h"] == "suppressed"
        assert states["ShopBuyingBudgetGone"] == states["ShopOpenOutageInProgress"] == "active"


def test_telemetry_that_stands_still_does_not_pass_for_health() -> None:
    promises = slo.ServiceSLOs(
        service="far", slos=(slo.availability("api", 99.9),), scraped=False, interval=1, scrape_interval=15
    )
    now = int(time.time())
    frozen = now - 1200
    past = [*counters(promises, {"api": lambda at: (RATE if at < frozen else 0.0, 0.0)}, 'job="far"', now - 7200, now)]
    past.append("# TYPE connectsoft_obs_export_duration_seconds histogram")
    for at in range(now - 7200, now, 15):
        count = (min(at, frozen) - now + 7200) // 15
        labels = 'job="far",connectsoft_obs_signal="metrics"'
        past.append(f'connectsoft_obs_export_duration_seconds_bucket{{{labels},le="+Inf"}} {count} {at}')
        past.append(f"connectsoft_obs_export_duration_seconds_count{{{labels}}} {count} {at}")
    with remembering(promises, past) as server:
        alert = wait_for(lambda: server.query('ALERTS{alertname="FarTelemetryStalled"}'), 20, "it is told")
        assert alert[0]["metric"]["alertstate"] == "firing"
        assert alert[0]["metric"]["severity"] == "Sev2"
        assert server.query('slo:sli_error:ratio_rate5m{slo="api"}') == []  # nothing is claimed about idle minutes


@pytest.fixture(scope="module")
def seen() -> Iterator[Prometheus]:
    """A service with traffic, failures and runs, watched for some seconds, behind a month of history."""
    now = int(time.time())
    past = [
        *tiles(slo_service.PROMISES, {"buying": steady, "quick": steady, "restock": steady}, now - 31 * DAY, now - 300)
    ]
    with uvicorn("slo_service:app") as service:
        service.ready()
        with remembering(slo_service.PROMISES, past, targets=[f"127.0.0.1:{service.port}"]) as server, load(service):
            wait_for(server.targets_up, 10)
            httpx.get(f"{service.url}/mood?fail=1")
            for fail in (0, 1):
                httpx.get(f"{service.url}/restock?fail={fail}")
            wait_for(lambda: server.value('slo:sli_bad:increase1h{slo="buying"}'), 20, "failures were seen")
            httpx.get(f"{service.url}/mood")
            for fail in (0, 1):
                httpx.get(f"{service.url}/restock?fail={fail}")
            runs = "sum(increase(connectsoft_job_duration_seconds_count[1h]))"
            wait_for(lambda: server.value(runs), 20, "runs were seen")
            wait_for(lambda: server.query("slo:composite_burn_rate:ratio"), 20, "all rules were evaluated")
            yield server


EMPTY = {
    "Messages": "the shop takes no messages",
    "Neither good nor bad": "nobody hung up",
    "Late by": "restock has no schedule",
    "Retries": "no run was tried again",
    "Failing checks": "the shop has no checks",
    "Event loop is late by": "it is recorded where health is watched",
    "Alerts": "it depends on the moment",
}


@pytest.mark.parametrize("name", ["shop-slo", "shop-red", "shop-workers", "platform"])
def test_every_panel_of_every_dashboard_shows_something(seen: Prometheus, name: str) -> None:
    boards = generated("grafana", [slo_service.PROMISES, slo.preset("bot")])
    board, row, empty = json.loads(boards[f"{name}.dashboard.json"]), "", []
    for panel in board["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        found = 0
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "10s").replace("$slo", "shop-buying")
            expression = re.sub(r"\$(?!\{)[a-z_]+", ".*", expression)
            found += len(seen.query(expression))
        if not found and row not in EMPTY and panel["title"] not in EMPTY:
            empty.append((row, panel["title"], [target["expr"] for target in panel["targets"]]))
    assert empty == []


def keep(server: Prometheus) -> None:
    """Pictures of the dashboards and a report of what just happened, where PREVIEWS says; they are part of the docs."""
    if not (place := os.environ.get("PREVIEWS")):
        return
    end = time.time()
    for name, content in generated("grafana", [slo_service.PROMISES, slo.preset("bot")]).items():
        if not name.startswith("bot"):
            chosen = {"__rate_interval": "15s", "slo": "shop-buying"}
            drawn = preview(json.loads(content), server, end - 780, end, chosen)
            (Path(place) / name.replace(".dashboard.json", ".svg")).write_text(drawn)
    subprocess.run(
        [sys.executable, "-m", "connectsoft_obs", "slo", "report", "slo_service:PROMISES", "--prometheus", server.url, "-o", place],
        check=True, env={**os.environ, "PYTHONPATH": str(APPS)}, timeout=120,
    )  # fmt: skip


@pytest.mark.full
def test_a_burst_pages_in_time_and_resolves_and_a_killed_service_is_an_outage() -> None:
    """Nine minutes: real scrapes, a month of history, twenty requests a second; evaluations a second apart."""
    [buying] = [one for one in slo_service.PROMISES.slos if one.name == "buying"]
    quick, slower = pairs(slo_service.PROMISES, buying)[:2]
    times: dict[str, float] = {}
    with uvicorn("slo_service:app") as service, alertmanager(CONFIGURATION) as manager:
        service.ready()
        target = f"127.0.0.1:{service.port}"
        now, names = int(time.time()), ("buying", "quick", "open")
        past = [
            *tiles(slo_service.PROMISES, dict.fromkeys(names[:2], steady), now - 31 * DAY, now - 15),
            *counters(
                slo_service.PROMISES,
                dict.fromkeys(names, steady),
                f'job="shop",instance="{target}"',
                now - 7 * 3600,
                now,
            ),
        ]
        with (
            remembering(slo_service.PROMISES, past, targets=[target], alertmanager=manager.address) as server,
            load(service),
        ):

            def firing() -> dict[str, float]:
                answer = httpx.get(f"{server.url}/api/v1/alerts", timeout=5).json()["data"]["alerts"]
                return {one["labels"]["alertname"]: 1.0 for one in answer if one["state"] == "firing"}

            def after(start: float, name: str, seconds: float, *, gone: bool = False) -> float:
                wait_for(lambda: (name in firing()) is not gone, seconds, f"{name} {'resolves' if gone else 'fires'}")
                return time.monotonic() - start

            wait_for(server.targets_up, 10)
            wait_for(lambda: server.query('slo:sli_error:ratio_rate6h{slo="buying"}'), 20)
            until = time.monotonic() + 20  # longer than the longest gap between history and the first scrape
            while time.monotonic() < until:
                assert firing() == {}, "a healthy service alerts"
                time.sleep(0.5)

            httpx.get(f"{service.url}/mood?fail=1")
            burst = time.monotonic()
            times["Sev1"] = after(burst, "ShopBuyingBudgetBurn1h", 90)
            times["Sev2"] = after(burst, "ShopBuyingBudgetBurn6h", 180)
            wait_for(lambda: manager.states().get("ShopBuyingBudgetBurn6h") == "suppressed", 20, "Sev1 silences Sev2")
            wait_for(lambda: ("page-sev1", "ShopBuyingBudgetBurn1h") in manager.told, 60, "somebody is paged")
            assert ("page-sev2", "ShopBuyingBudgetBurn6h") not in manager.told
            httpx.get(f"{service.url}/mood")
            recovery = time.monotonic()
            times["Sev1 resolved"] = after(recovery, "ShopBuyingBudgetBurn1h", 400, gone=True)
            wait_for(lambda: "ShopOpenOutageInProgress" not in firing(), 60)

            service.stop(signal.SIGKILL)
            killed = time.monotonic()
            times["killed"] = after(killed, "ShopOpenOutageInProgress", 180)
            keep(server)
    print(json.dumps({name: round(seconds, 1) for name, seconds in times.items()}))
    late = 1 + 2 * 1 + 1  # a scrape, two evaluations, and what the load generator and this test are late by
    first, second = quick.detection(buying.budget), slower.detection(buying.budget)
    assert first is not None
    assert second is not None
    assert first - 2 <= times["Sev1"] <= first + late
    assert second - 2 <= times["Sev2"] <= second + late
    assert times["Sev1 resolved"] == pytest.approx(quick.reset(buying.budget), abs=late + 2)
    assert 120 <= times["killed"] <= 120 + late + 2
