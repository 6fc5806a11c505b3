"""Transitions: one log line, one metric increment and one listener call each; metrics of states and durations."""

from __future__ import annotations

import sys
import threading
from typing import Any

from support.process import wait_for
from support.service_client import wait_for_status

import connectsoft_obs as obs
from connectsoft_obs.health import Phase, Probe, Transition
from connectsoft_obs.testing import capture
from connectsoft_obs.vocabulary import HealthState

HEALTHY, DEGRADED, UNHEALTHY = HealthState


def test_transition_is_logged_counted_and_published_once(run_service: Any) -> None:
    calls: list[tuple[Transition, str]] = []

    @obs.on_health_change
    def on_change(change: Transition) -> None:
        calls.append((change, threading.current_thread().name))

    with run_service() as (client, captured):
        assert client.get("/health/ready").status_code == 200
        obs.mark_unready("cache is cold")
        assert client.get("/health/ready").status_code == 503
        obs.mark_unready("cache is still cold")
        obs.mark_ready()
        assert client.get("/health/ready").status_code == 200
        wait_for(lambda: len(calls) == 2)
        lines = [
            (
                line["severity"],
                line["message"],
                line["connectsoft.health.cause"],
                line["connectsoft.health.previous_state"],
            )
            for line in captured.logs
        ]
        count = captured.metric("connectsoft.health.transitions")
        received = list(calls)
    assert lines == [
        ("WARN", "readiness is unhealthy", "unready: cache is cold", "healthy"),
        ("INFO", "readiness is healthy", "marked ready", "unhealthy"),
    ]
    assert count.value == 2
    assert {series["connectsoft_health_state"] for series in count.series} == {"healthy", "unhealthy"}
    assert [call[0] for call in received] == [
        Transition(Probe.READINESS, HEALTHY, UNHEALTHY, "unready: cache is cold", Phase.READY),
        Transition(Probe.READINESS, UNHEALTHY, HEALTHY, "marked ready", Phase.READY),
    ]
    assert {call[1] for call in received} == {"obs-health-notify"}


def test_fail_liveness_fails_liveness_only_until_the_restart(run_service: Any) -> None:
    with run_service() as (client, captured):
        obs.fail_liveness("the index is corrupt")
        assert client.get("/health/live").status_code == 503
        assert client.get("/health/ready").status_code == 200
        obs.mark_ready()
        assert client.get("/health/live").status_code == 503
    [line] = [line for line in captured.logs if line["message"] == "liveness is unhealthy"]
    assert (line["severity"], line["connectsoft.health.cause"]) == ("WARN", "liveness failed: the index is corrupt")


def test_liveness_watch_fails_liveness_with_its_name(run_service: Any) -> None:
    problem = ""
    with run_service(environment="development") as (client, captured):
        captured.telemetry.health.add_liveness_watch("consumer", lambda: problem)
        assert client.get("/health/live").json()["entries"] == {}
        problem = "its thread has ended"
        body = wait_for_status(client, 503, "/health/live")
        assert body["entries"]["consumer"]["description"] == "its thread has ended"
        wait_for(
            lambda: [
                line
                for line in captured.logs
                if line.get("connectsoft.health.cause") == "consumer: its thread has ended"
            ]
        )
        problem = ""
        wait_for_status(client, 200, "/health/live")


def test_liveness_watch_that_raises_does_not_fail_liveness(run_service: Any) -> None:
    with run_service() as (client, captured):
        captured.telemetry.health.add_liveness_watch("raises", lambda: 1 / 0)
        assert client.get("/health/live").status_code == 200


def test_check_and_probe_transitions_are_logged_with_reasons(run_service: Any) -> None:
    failing = False

    @obs.readiness_check("db", interval=0.1)
    def db() -> None:
        if failing:
            raise ConnectionError("refused by 10.0.0.1")

    with run_service() as (client, captured):
        wait_for_status(client, 200)
        failing = True
        wait_for_status(client, 503)
        failing = False
        wait_for_status(client, 200)
        wait_for(lambda: len([line for line in captured.logs if line["message"] == "readiness is healthy"]) == 2)
    lines = [(line["severity"], line["message"], line.get("connectsoft.health.cause")) for line in captured.logs]
    assert lines[1:5] == [
        ("WARN", "health check db is unhealthy", None),
        ("WARN", "readiness is unhealthy", "db: ConnectionError: refused by 10.0.0.1"),
        ("INFO", "health check db is healthy", None),
        ("INFO", "readiness is healthy", "resolved: db: ConnectionError: refused by 10.0.0.1"),
    ]


def test_stop_of_the_service_is_logged_with_its_cause(run_service: Any) -> None:
    phases: list[Any] = []
    with run_service() as (client, captured):
        assert client.get("/health/ready").status_code == 200
        obs.on_health_change(lambda change: phases.append((change.after, change.phase)))
    lines = [
        (line["severity"], line["message"], line["connectsoft.health.cause"], line["connectsoft.health.phase"])
        for line in captured.logs
    ]
    assert lines == [
        ("INFO", "readiness is unhealthy", "draining: the server stops", "draining"),
        ("INFO", "service is stopped", "stopped", "stopped"),
    ]
    wait_for(lambda: phases == [(UNHEALTHY, Phase.DRAINING), (Phase.STOPPED, Phase.STOPPED)], 5, str(phases))
    transitions = captured.metric("connectsoft.health.transitions").series
    assert {(series["connectsoft_health_kind"], series["connectsoft_health_state"]) for series in transitions} == {
        ("readiness", "unhealthy"),
        ("lifecycle", "stopped"),
    }


def test_transition_seen_by_several_threads_is_published_once(run_service: Any) -> None:
    """Several threads evaluate health: the timer, results of checks, and the thread that starts the drain."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            with capture() as captured, run_service() as (client, _):
                wait_for_status(client, 200)
                assert captured.telemetry is not None
                health, stopped = captured.telemetry.health, threading.Event()

                def evaluate(health: Any = health, stopped: threading.Event = stopped) -> None:
                    while not stopped.is_set():
                        health.evaluate()

                threads = [threading.Thread(target=evaluate) for _ in range(3)]
                for thread in threads:
                    thread.start()
                health.drain("a test")
                wait_for(lambda: [line for line in captured.logs if "unhealthy" in line["message"]])
                stopped.set()
                for thread in threads:
                    thread.join()
                logged = [
                    (line["message"], line["connectsoft.health.cause"], line["connectsoft.health.phase"])
                    for line in captured.logs
                    if "connectsoft.health.phase" in line
                ]
                assert logged == [("readiness is unhealthy", "draining: a test", "draining")]
    finally:
        sys.setswitchinterval(interval)


def test_listener_that_raises_or_blocks_does_not_affect_others(run_service: Any) -> None:
    received = []
    released = threading.Event()

    @obs.on_health_change
    def raises(_: Transition) -> None:
        raise RuntimeError("from a listener")

    @obs.on_health_change
    def blocks(change: Transition) -> None:
        received.append(change.after)
        released.wait(5)

    with run_service() as (client, captured):
        obs.mark_unready("x")
        obs.mark_ready()
        assert client.get("/health/ready").status_code == 200
        wait_for(lambda: received == [UNHEALTHY])
        released.set()
        wait_for(lambda: received == [UNHEALTHY, HEALTHY])
        assert captured.metric("connectsoft.obs.errors", connectsoft_obs_where="health.listener").value == 2


def test_states_and_durations_are_metrics(run_service: Any) -> None:
    @obs.readiness_check("passing", interval=0.1)
    def passing() -> None: ...

    @obs.readiness_check("failing", interval=0.1, critical=False)
    def failing() -> None:
        raise ValueError

    with run_service() as (client, captured):
        wait_for_status(client, 200)
        wait_for(lambda: captured.metric("connectsoft.health.check.duration").count > 4)
        page = client.get("/metrics").text

    def series(name: str) -> set[str]:
        return {line for line in page.splitlines() if line.startswith(name)}

    assert (
        'connectsoft_health_status{connectsoft_health_kind="readiness",connectsoft_health_state="degraded"} 1'
        in series("connectsoft_health_status")
    )
    assert 'connectsoft_health_status{connectsoft_health_kind="liveness",connectsoft_health_state="healthy"} 1' in page
    name = 'connectsoft_health_check_status{connectsoft_health_check_name="%s",connectsoft_health_kind="readiness",'
    assert name % "failing" + 'connectsoft_health_state="degraded"} 1' in page
    assert name % "passing" + 'connectsoft_health_state="healthy"} 1' in page
    assert name % "passing" + 'connectsoft_health_state="unhealthy"} 0' in page
    durations = captured.metric("connectsoft.health.check.duration", connectsoft_health_check_name="failing")
    assert {series["connectsoft_health_state"] for series in durations.series} == {"unhealthy"}


def test_transition_log_line_has_the_trace_of_the_request_that_caused_it(captured: Any) -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    async def mark(_: Any) -> PlainTextResponse:
        obs.mark_unready("maintenance")
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/mark", mark)])
    app.add_middleware(obs.ObservabilityMiddleware, service="a")
    with TestClient(app) as client:
        correlation = client.get("/mark").headers["x-correlation-id"]
    assert (
        captured.log("readiness is unhealthy", connectsoft_health_cause="unready: maintenance")["trace_id"]
        == correlation
    )
