"""Each change of health is one line with its cause, one count, one call; states and durations are metrics."""

from __future__ import annotations

import sys
import threading
from typing import Any

from support.process import wait_for
from support.service_client import becomes

import connectsoft_obs as obs
from connectsoft_obs.health import Phase, Probe, Transition
from connectsoft_obs.testing import capture
from connectsoft_obs.vocabulary import HealthState

HEALTHY, DEGRADED, UNHEALTHY = HealthState


def test_a_transition_is_one_line_one_count_and_one_call(life: Any) -> None:
    calls: list[tuple[Transition, str]] = []

    @obs.on_health_change
    def told(change: Transition) -> None:
        calls.append((change, threading.current_thread().name))

    with life() as (client, seen):
        assert client.get("/health/ready").status_code == 200
        obs.mark_unready("cache is cold")
        assert client.get("/health/ready").status_code == 503
        obs.mark_unready("cache is still cold")
        obs.mark_ready()
        assert client.get("/health/ready").status_code == 200
        wait_for(lambda: len(calls) == 2)
        lines = [(line["severity"], line["message"], line["cause"], line["previous"]) for line in seen.logs]
        count = seen.metric("connectsoft.health.transitions")
        heard = list(calls)
    assert lines == [
        ("WARN", "readiness is unhealthy", "unready: cache is cold", "healthy"),
        ("INFO", "readiness is healthy", "marked ready", "unhealthy"),
    ]
    assert count.value == 2
    assert {series["connectsoft_health_state"] for series in count.series} == {"healthy", "unhealthy"}
    assert [call[0] for call in heard] == [
        Transition(Probe.READINESS, HEALTHY, UNHEALTHY, "unready: cache is cold", Phase.READY),
        Transition(Probe.READINESS, UNHEALTHY, HEALTHY, "marked ready", Phase.READY),
    ]
    assert {call[1] for call in heard} == {"obs-health-notify"}


def test_mark_broken_fails_liveness_and_nothing_else_until_the_restart(life: Any) -> None:
    with life() as (client, seen):
        obs.fail_liveness("the index is corrupt")
        assert client.get("/health/live").status_code == 503
        assert client.get("/health/ready").status_code == 200
        obs.mark_ready()
        assert client.get("/health/live").status_code == 503
    [line] = [line for line in seen.logs if line["message"] == "liveness is unhealthy"]
    assert (line["severity"], line["cause"]) == ("WARN", "broken: the index is corrupt")


def test_a_dead_vital_part_fails_liveness_by_its_name(life: Any) -> None:
    problem = ""
    with life(environment="development") as (client, seen):
        seen.telemetry.health.add_liveness_watch("consumer", lambda: problem)
        assert client.get("/health/live").json()["entries"] == {}
        problem = "its thread has ended"
        body = becomes(client, 503, "/health/live")
        assert body["entries"]["consumer"]["description"] == "its thread has ended"
        wait_for(lambda: [line for line in seen.logs if line.get("cause") == "consumer: its thread has ended"])
        problem = ""
        becomes(client, 200, "/health/live")


def test_a_question_about_a_vital_part_that_fails_restarts_nothing(life: Any) -> None:
    with life() as (client, seen):
        seen.telemetry.health.add_liveness_watch("odd", lambda: 1 / 0)
        assert client.get("/health/live").status_code == 200


def test_a_check_that_changes_is_one_line_with_its_reason_and_one_for_the_probe(life: Any) -> None:
    failing = False

    @obs.readiness_check("db", interval=0.1)
    def db() -> None:
        if failing:
            raise ConnectionError("refused by 10.0.0.1")

    with life() as (client, seen):
        becomes(client, 200)
        failing = True
        becomes(client, 503)
        failing = False
        becomes(client, 200)
        wait_for(lambda: len([line for line in seen.logs if line["message"] == "readiness is healthy"]) == 2)
    lines = [(line["severity"], line["message"], line.get("cause")) for line in seen.logs]
    assert lines[1:5] == [
        ("WARN", "health check db is unhealthy", None),
        ("WARN", "readiness is unhealthy", "db: ConnectionError: refused by 10.0.0.1"),
        ("INFO", "health check db is healthy", None),
        ("INFO", "readiness is healthy", "over: db: ConnectionError: refused by 10.0.0.1"),
    ]


def test_the_end_of_a_service_is_told_with_its_cause(life: Any) -> None:
    phases: list[Any] = []
    with life() as (client, seen):
        assert client.get("/health/ready").status_code == 200
        obs.on_health_change(lambda change: phases.append((change.after, change.phase)))
    lines = [(line["severity"], line["message"], line["cause"], line["phase"]) for line in seen.logs]
    assert lines == [
        ("INFO", "readiness is unhealthy", "draining: the server stops", "draining"),
        ("INFO", "service is stopped", "stopped", "stopped"),
    ]
    wait_for(lambda: phases == [(UNHEALTHY, Phase.DRAINING), (Phase.STOPPED, Phase.STOPPED)], 5, str(phases))
    counted = seen.metric("connectsoft.health.transitions").series
    assert {(one["connectsoft_health_kind"], one["connectsoft_health_state"]) for one in counted} == {
        ("readiness", "unhealthy"),
        ("lifecycle", "stopped"),
    }


def test_a_change_that_several_threads_see_at_once_is_told_once(life: Any) -> None:
    """The health thread looks each second, and results of checks come at any time, also while a drain begins."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            with capture() as seen, life() as (client, _):
                becomes(client, 200)
                assert seen.telemetry is not None
                health, over = seen.telemetry.health, threading.Event()

                def settle(health: Any = health, over: threading.Event = over) -> None:
                    while not over.is_set():
                        health.evaluate()

                threads = [threading.Thread(target=settle) for _ in range(3)]
                for thread in threads:
                    thread.start()
                health.drain("a test")
                wait_for(lambda: [line for line in seen.logs if "unhealthy" in line["message"]])
                over.set()
                for thread in threads:
                    thread.join()
                told = [(line["message"], line["cause"], line["phase"]) for line in seen.logs if "phase" in line]
                assert told == [("readiness is unhealthy", "draining: a test", "draining")]
    finally:
        sys.setswitchinterval(interval)


def test_a_listener_that_raises_or_hangs_disturbs_nobody(life: Any) -> None:
    heard = []
    free = threading.Event()

    @obs.on_health_change
    def raises(_: Transition) -> None:
        raise RuntimeError("mine")

    @obs.on_health_change
    def hears(change: Transition) -> None:
        heard.append(change.after)
        free.wait(5)

    with life() as (client, seen):
        obs.mark_unready("x")
        obs.mark_ready()
        assert client.get("/health/ready").status_code == 200
        wait_for(lambda: heard == [UNHEALTHY])
        free.set()
        wait_for(lambda: heard == [UNHEALTHY, HEALTHY])
        assert seen.metric("connectsoft.obs.errors", connectsoft_obs_where="health.listener").value == 2


def test_states_and_durations_are_metrics(life: Any) -> None:
    @obs.readiness_check("good", interval=0.1)
    def good() -> None: ...

    @obs.readiness_check("bad", interval=0.1, critical=False)
    def bad() -> None:
        raise ValueError

    with life() as (client, seen):
        becomes(client, 200)
        wait_for(lambda: seen.metric("connectsoft.health.check.duration").count > 4)
        page = client.get("/metrics").text

    def series(name: str) -> set[str]:
        return {line for line in page.splitlines() if line.startswith(name)}

    assert (
        'connectsoft_health_status{connectsoft_health_kind="readiness",connectsoft_health_state="degraded"} 1'
        in series("connectsoft_health_status")
    )
    assert 'connectsoft_health_status{connectsoft_health_kind="liveness",connectsoft_health_state="healthy"} 1' in page
    name = 'connectsoft_health_check_status{connectsoft_health_check_name="%s",connectsoft_health_kind="readiness",'
    assert name % "bad" + 'connectsoft_health_state="degraded"} 1' in page
    assert name % "good" + 'connectsoft_health_state="healthy"} 1' in page
    assert name % "good" + 'connectsoft_health_state="unhealthy"} 0' in page
    durations = seen.metric("connectsoft.health.check.duration", connectsoft_health_check_name="bad")
    assert {one["connectsoft_health_state"] for one in durations.series} == {"unhealthy"}


def test_the_line_of_a_mark_belongs_to_the_request_that_made_it(seen: Any) -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    async def mark(_: Any) -> PlainTextResponse:
        obs.mark_unready("by hand")
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/mark", mark)])
    app.add_middleware(obs.ObservabilityMiddleware, service="a")
    with TestClient(app) as client:
        correlation = client.get("/mark").headers["x-correlation-id"]
    assert seen.log("readiness is unhealthy", cause="unready: by hand")["trace_id"] == correlation
