"""Checks run in the background, never twice at once and never for longer than they may; probes only read."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from functools import partial
from typing import Any

import pytest
from opentelemetry import context
from support.process import wait_for
from support.service_client import becomes

import connectsoft_obs as obs
from connectsoft_obs.health import Check, Probe
from connectsoft_obs.health.check_state import CheckState
from connectsoft_obs.vocabulary import HealthState

HEALTHY, DEGRADED, UNHEALTHY = HealthState


def test_readiness_waits_for_the_first_run_of_every_check(life: Any) -> None:
    may = threading.Event()

    @obs.readiness_check("slow-to-begin")
    def check() -> None:
        may.wait(5)

    with life() as (client, _):
        first = client.get("/health/ready", headers={"accept": "text/plain"})
        assert first.status_code == 503
        assert client.get("/health/live").status_code == 200
        may.set()
        body = becomes(client, 200)
    assert body["entries"]["slow-to-begin"]["status"] == "Healthy"


def test_a_service_without_checks_is_ready_at_once(life: Any) -> None:
    with life() as (client, seen):
        assert [client.get(path).status_code for path in ("/health/ready", "/health/startup", "/health/live")] == [
            200
        ] * 3
        assert client.get("/health/ready").json()["entries"] == {}
        assert seen.logs == []


@pytest.mark.parametrize("kind", ["sync", "async", "lambda of async", "object"])
def test_a_check_passes_by_returning_and_fails_by_raising(kind: str, life: Any) -> None:
    failing = False

    def check() -> None:
        if failing:
            raise ConnectionError("refused")

    async def acheck() -> None:
        check()

    class Callable:
        async def __call__(self) -> None:
            check()

    function: Any = {"sync": check, "async": acheck, "lambda of async": lambda: acheck(), "object": Callable()}[kind]
    obs.readiness_check("db", interval=0.1)(function)
    with life(environment="development") as (client, _):
        becomes(client, 200)
        failing = True
        body = becomes(client, 503)
        assert body["entries"]["db"]["description"] == "ConnectionError: refused"
        failing = False
        becomes(client, 200)


def test_async_checks_run_on_the_application_s_loop_and_others_in_threads_of_their_own(life: Any) -> None:
    ran: dict[str, str] = {}

    @obs.readiness_check("async")
    async def on_loop() -> None:
        ran["async"] = threading.current_thread().name

    @obs.readiness_check("sync")
    def in_thread() -> None:
        ran["sync"] = threading.current_thread().name

    with life() as (client, _):
        becomes(client, 200)
    assert ran["sync"] == "obs-check-sync"
    assert not ran["async"].startswith("obs-")


def test_a_check_that_hangs_is_in_flight_once_times_out_and_delays_no_probe(life: Any) -> None:
    flying, most, runs = 0, 0, 0
    free = threading.Event()

    @obs.readiness_check("hangs", interval=0.1, timeout=0.2)
    def hangs() -> None:
        nonlocal flying, most, runs
        flying, runs = flying + 1, runs + 1
        most = max(most, flying)
        free.wait(20)
        flying -= 1

    @obs.readiness_check("other", interval=0.1)
    def other() -> None:
        pass

    with life(environment="development") as (client, seen):
        body = becomes(client, 503)
        wait_for(lambda: "still running" in client.get("/health/ready").text, 5)
        assert next(line["reason"] for line in seen.logs if "reason" in line) == "timed out after 0.2 s"
        assert (runs, most) == (1, 1)
        body = client.get("/health/ready").json()
        assert body["entries"]["other"]["status"] == "Healthy"
        assert body["entries"]["hangs"]["data"]["failures"] >= 2
        free.set()
        becomes(client, 200)
    assert most == 1
    assert runs >= 2


def test_an_async_check_that_hangs_is_cancelled(life: Any) -> None:
    cancelled = threading.Event()

    @obs.readiness_check("hangs", interval=5, timeout=0.1)
    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with life(environment="development") as (client, _):
        wait_for(lambda: "timed out after 0.1 s" in client.get("/health/ready").text, 5)
    assert cancelled.is_set()


def test_an_async_check_that_swallows_its_cancellation_is_red_and_still_in_flight_once(life: Any) -> None:
    runs = 0

    @obs.readiness_check("deaf", interval=0.1, timeout=0.1)
    async def deaf() -> None:
        nonlocal runs
        runs += 1
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    with life(environment="development") as (client, _):
        wait_for(lambda: "still running" in client.get("/health/ready").text, 5)
        assert runs == 1


def test_a_check_that_raises_system_exit_fails_and_ends_nothing(life: Any) -> None:
    @obs.readiness_check("exits", interval=0.1)
    async def exits() -> None:
        raise SystemExit(3)

    with life(environment="development") as (client, _):
        body = becomes(client, 503)
        wait_for(lambda: "SystemExit: 3" in client.get("/health/ready").text)
        assert body["status"] == "Unhealthy"


def test_a_flapping_check_stays_green_below_its_threshold_and_red_until_it_recovers() -> None:
    def run() -> None: ...

    state = CheckState(Check("c", Probe.READINESS, run, failure_threshold=3, success_threshold=2), 60)
    assert state.state is UNHEALTHY
    story = "+ - - + - - - + - + + -"
    states = []
    for outcome in story.split():
        state.passed(0.1) if outcome == "+" else state.failed("no", 0.1)
        states.append("g" if state.state is HEALTHY else "r")
    # Red at the third failure in a row, not the fifth in all; green at the second pass in a row.
    assert "".join(states) == "ggggggrrrrgg"


def test_a_flapping_dependency_shows_as_specified_over_time(life: Any) -> None:
    outcomes = itertools.chain([None], itertools.cycle([ValueError("flap"), None]))
    results = []

    @obs.readiness_check("flaps", interval=0.1)
    def flaps() -> None:
        results.append(outcome := next(outcomes))
        if outcome is not None:
            raise outcome

    with life() as (client, seen):
        becomes(client, 200)
        statuses = {client.get("/health/ready").status_code for _ in iter(lambda: len(results) < 8, False)}
    assert statuses == {200}
    assert not [line for line in seen.logs if "flaps" in line["message"]]


def test_the_first_result_decides_whatever_the_thresholds() -> None:
    def run() -> None: ...

    for outcome, expected in (("passed", HEALTHY), ("failed", UNHEALTHY)):
        state = CheckState(Check("c", Probe.READINESS, run, failure_threshold=5, success_threshold=5), 60)
        state.passed(0.1) if outcome == "passed" else state.failed("no", 0.1)
        assert state.state is expected


def test_a_stale_result_counts_as_failed_except_for_liveness() -> None:
    def run() -> None: ...

    for probe, expected in ((Probe.READINESS, UNHEALTHY), (Probe.LIVENESS, DEGRADED)):
        state = CheckState(Check("c", probe, run), stale_after=0.05)
        state.passed(0.001)
        assert state.state is HEALTHY
        wait_for(partial(stands, state, expected), 2)
        assert "last ran" in state.reason


def stands(state: CheckState, expected: HealthState) -> bool:
    return state.state is expected


def test_a_failing_check_that_is_not_critical_degrades_with_a_200(life: Any) -> None:
    @obs.readiness_check("recommendations", critical=False, tags=["external"])
    def recommendations() -> None:
        raise ConnectionError("gone")

    with life() as (client, _):
        body = becomes(client, 200)
        assert body["status"] == "Degraded"
        assert body["entries"]["recommendations"]["status"] == "Degraded"
        assert body["entries"]["recommendations"]["tags"] == ["external", "ready"]
        assert body["ApplicationHealthState"] == "Healthy"


def test_a_liveness_check_fails_liveness_and_nothing_else(life: Any) -> None:
    dead = False

    @obs.liveness_check("consumer-thread", interval=0.1)
    def consumer() -> None:
        if dead:
            raise RuntimeError("the thread is dead")

    with life() as (client, _):
        assert client.get("/health/live").status_code == 200
        becomes(client, 200)
        dead = True
        becomes(client, 503, "/health/live")
        assert client.get("/health/ready").status_code == 200
        assert client.get("/health").status_code == 503
        dead = False
        becomes(client, 200, "/health/live")


def test_checks_run_at_their_interval_with_jitter_whatever_the_number_of_probes(life: Any) -> None:
    times: list[float] = []

    @obs.readiness_check("counted", interval=0.2)
    def counted() -> None:
        times.append(time.monotonic())

    with life() as (client, _):
        until = time.monotonic() + 2.0
        probes = 0
        while time.monotonic() < until:
            assert client.get("/health/ready").status_code in (200, 503)
            probes += 1
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert probes > 100
    assert 7 <= len(times) <= 13
    assert len({round(pause, 4) for pause in pauses}) > 1
    assert sum(pauses) / len(pauses) > 0.17  # one of them is shorter where a thread began late


def test_a_dependency_that_comes_up_late_is_noticed_within_a_second_and_not_an_interval(life: Any) -> None:
    up = False

    @obs.readiness_check("late", interval=60)
    def late() -> None:
        if not up:
            raise ConnectionError("not yet")

    with life() as (client, _):
        becomes(client, 503)
        up = True
        becomes(client, 200, seconds=3)


def test_a_shared_critical_check_is_warned_of_at_start(life: Any) -> None:
    @obs.readiness_check("main-db", scope="shared")
    def main_db() -> None: ...

    @obs.readiness_check("cache", scope="shared", critical=False)
    def cache() -> None: ...

    with life() as (client, seen):
        becomes(client, 200)
        [line] = [line for line in seen.logs if line["severity"] == "WARN"]
    assert "main-db is critical and shared" in line["message"]
    assert "every instance leaves rotation at once" in line["message"]


def test_more_hanging_checks_than_threads_say_so_and_spare_async_ones(life: Any) -> None:
    free = threading.Event()
    for number in range(18):
        obs.readiness_check(f"hangs-{number}", critical=False, timeout=0.2)(lambda: free.wait(10))

    @obs.readiness_check("fine")
    async def fine() -> None: ...

    with life(environment="development") as (client, _):
        wait_for(lambda: "every thread for checks is busy" in client.get("/health/ready").text)
        body = client.get("/health/ready").json()
        wait_for(lambda: client.get("/health/ready/fine").status_code == 200)
        free.set()
    assert sum("busy" in entry.get("description", "") for entry in body["entries"].values()) == 2


def test_what_a_check_asks_of_others_is_nobody_s_telemetry(life: Any) -> None:
    suppressed = []

    @obs.readiness_check("sync")
    def sync() -> None:
        suppressed.append(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))

    @obs.readiness_check("async")
    async def asynchronous() -> None:
        suppressed.append(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))

    with life() as (client, seen):
        becomes(client, 200)
    assert suppressed == [True, True]
    assert seen.spans == []


def test_a_slow_check_is_said_to_be_slow_once(life: Any) -> None:
    runs = 0

    @obs.readiness_check("slow", interval=0.1, timeout=0.2)
    def slow() -> None:
        nonlocal runs
        runs += 1
        time.sleep(0.15)

    with life() as (client, seen):
        becomes(client, 200)
        wait_for(lambda: runs > 3)
    lines = [line for line in seen.logs if line["message"] == "health check slow is slow"]
    assert len(lines) == 1
    assert lines[0]["seconds"] >= 0.15
