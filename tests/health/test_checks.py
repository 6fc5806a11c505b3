"""Checks run in the background, never concurrently with themselves and with a timeout; probes only read results."""

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
from support.service_client import wait_for_status

import connectsoft_obs as obs
from connectsoft_obs.health import Check, Probe
from connectsoft_obs.health.check_state import CheckState
from connectsoft_obs.vocabulary import HealthState

HEALTHY, DEGRADED, UNHEALTHY = HealthState


def test_readiness_waits_for_the_first_run_of_every_check(run_service: Any) -> None:
    may_pass = threading.Event()

    @obs.readiness_check("slow-first-run")
    def check() -> None:
        may_pass.wait(5)

    with run_service() as (client, _):
        response = client.get("/health/ready", headers={"accept": "text/plain"})
        assert response.status_code == 503
        assert client.get("/health/live").status_code == 200
        may_pass.set()
        body = wait_for_status(client, 200)
    assert body["entries"]["slow-first-run"]["status"] == "Healthy"


def test_service_without_checks_is_ready_at_once(run_service: Any) -> None:
    with run_service() as (client, captured):
        assert [client.get(path).status_code for path in ("/health/ready", "/health/startup", "/health/live")] == [
            200
        ] * 3
        assert client.get("/health/ready").json()["entries"] == {}
        assert captured.logs == []


@pytest.mark.parametrize("kind", ["sync", "async", "lambda of async", "object"])
def test_check_passes_by_returning_and_fails_by_raising(kind: str, run_service: Any) -> None:
    failing = False

    def check() -> None:
        if failing:
            raise ConnectionError("refused")

    async def check_async() -> None:
        check()

    class Callable:
        async def __call__(self) -> None:
            check()

    function: Any = {
        "sync": check,
        "async": check_async,
        "lambda of async": lambda: check_async(),
        "object": Callable(),
    }[kind]
    obs.readiness_check("db", interval=0.1)(function)
    with run_service(environment="development") as (client, _):
        wait_for_status(client, 200)
        failing = True
        body = wait_for_status(client, 503)
        assert body["entries"]["db"]["description"] == "ConnectionError: refused"
        failing = False
        wait_for_status(client, 200)


def test_async_checks_run_on_the_application_loop_and_others_in_threads(run_service: Any) -> None:
    threads: dict[str, str] = {}

    @obs.readiness_check("async")
    async def on_loop() -> None:
        threads["async"] = threading.current_thread().name

    @obs.readiness_check("sync")
    def in_thread() -> None:
        threads["sync"] = threading.current_thread().name

    with run_service() as (client, _):
        wait_for_status(client, 200)
    assert threads["sync"] == "obs-check-sync"
    assert not threads["async"].startswith("obs-")


def test_hanging_check_runs_once_times_out_and_delays_no_probe(run_service: Any) -> None:
    in_flight, max_in_flight, runs = 0, 0, 0
    released = threading.Event()

    @obs.readiness_check("hangs", interval=0.1, timeout=0.2)
    def hangs() -> None:
        nonlocal in_flight, max_in_flight, runs
        in_flight, runs = in_flight + 1, runs + 1
        max_in_flight = max(max_in_flight, in_flight)
        released.wait(20)
        in_flight -= 1

    @obs.readiness_check("other", interval=0.1)
    def other() -> None:
        pass

    with run_service(environment="development") as (client, captured):
        body = wait_for_status(client, 503)
        wait_for(lambda: "still running" in client.get("/health/ready").text, 5)
        assert (
            next(line["connectsoft.obs.reason"] for line in captured.logs if "connectsoft.obs.reason" in line)
            == "timed out after 0.2 s"
        )
        assert (runs, max_in_flight) == (1, 1)
        body = client.get("/health/ready").json()
        assert body["entries"]["other"]["status"] == "Healthy"
        assert body["entries"]["hangs"]["data"]["failures"] >= 2
        released.set()
        wait_for_status(client, 200)
    assert max_in_flight == 1
    assert runs >= 2


def test_hanging_async_check_is_cancelled(run_service: Any) -> None:
    cancelled = threading.Event()

    @obs.readiness_check("hangs", interval=5, timeout=0.1)
    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with run_service(environment="development") as (client, _):
        wait_for(lambda: "timed out after 0.1 s" in client.get("/health/ready").text, 5)
    assert cancelled.is_set()


def test_async_check_that_ignores_cancellation_fails_and_is_not_repeated(run_service: Any) -> None:
    runs = 0

    @obs.readiness_check("ignores-cancellation", interval=0.1, timeout=0.1)
    async def ignores_cancellation() -> None:
        nonlocal runs
        runs += 1
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    with run_service(environment="development") as (client, _):
        wait_for(lambda: "still running" in client.get("/health/ready").text, 5)
        assert runs == 1


def test_check_that_raises_system_exit_only_fails(run_service: Any) -> None:
    @obs.readiness_check("exits", interval=0.1)
    async def exits() -> None:
        raise SystemExit(3)

    with run_service(environment="development") as (client, _):
        body = wait_for_status(client, 503)
        wait_for(lambda: "SystemExit: 3" in client.get("/health/ready").text)
        assert body["status"] == "Unhealthy"


def test_thresholds_smooth_a_flapping_check() -> None:
    def run() -> None: ...

    state = CheckState(Check("c", Probe.READINESS, run, failure_threshold=3, success_threshold=2), 60)
    assert state.state is UNHEALTHY
    outcomes = "+ - - + - - - + - + + -"
    states = []
    for outcome in outcomes.split():
        state.record_pass(0.1) if outcome == "+" else state.record_failure("no", 0.1)
        states.append("h" if state.state is HEALTHY else "u")
    # Unhealthy at the third consecutive failure, not the fifth in total; healthy at the second consecutive pass.
    assert "".join(states) == "hhhhhhuuuuhh"


def test_flapping_dependency_below_its_threshold_stays_ready(run_service: Any) -> None:
    outcomes = itertools.chain([None], itertools.cycle([ValueError("flapping"), None]))
    results = []

    @obs.readiness_check("flaps", interval=0.1)
    def flaps() -> None:
        results.append(outcome := next(outcomes))
        if outcome is not None:
            raise outcome

    with run_service() as (client, captured):
        wait_for_status(client, 200)
        statuses = {client.get("/health/ready").status_code for _ in iter(lambda: len(results) < 8, False)}
    assert statuses == {200}
    assert not [line for line in captured.logs if "flaps" in line["message"]]


def test_first_result_applies_regardless_of_thresholds() -> None:
    def run() -> None: ...

    for outcome, expected in (("passed", HEALTHY), ("failed", UNHEALTHY)):
        state = CheckState(Check("c", Probe.READINESS, run, failure_threshold=5, success_threshold=5), 60)
        state.record_pass(0.1) if outcome == "passed" else state.record_failure("no", 0.1)
        assert state.state is expected


def test_stale_result_counts_as_failed_except_for_liveness() -> None:
    def run() -> None: ...

    for probe, expected in ((Probe.READINESS, UNHEALTHY), (Probe.LIVENESS, DEGRADED)):
        state = CheckState(Check("c", probe, run), stale_after=0.05)
        state.record_pass(0.001)
        assert state.state is HEALTHY
        wait_for(partial(has_state, state, expected), 2)
        assert "last ran" in state.reason


def has_state(state: CheckState, expected: HealthState) -> bool:
    return state.state is expected


def test_failing_check_that_is_not_critical_degrades_readiness(run_service: Any) -> None:
    @obs.readiness_check("recommendations", critical=False, tags=["external"])
    def recommendations() -> None:
        raise ConnectionError("refused")

    with run_service() as (client, _):
        body = wait_for_status(client, 200)
        assert body["status"] == "Degraded"
        assert body["entries"]["recommendations"]["status"] == "Degraded"
        assert body["entries"]["recommendations"]["tags"] == ["external", "ready"]
        assert body["ApplicationHealthState"] == "Healthy"


def test_liveness_check_fails_liveness_only(run_service: Any) -> None:
    failing = False

    @obs.liveness_check("consumer-thread", interval=0.1)
    def consumer() -> None:
        if failing:
            raise RuntimeError("the thread is dead")

    with run_service() as (client, _):
        assert client.get("/health/live").status_code == 200
        wait_for_status(client, 200)
        failing = True
        wait_for_status(client, 503, "/health/live")
        assert client.get("/health/ready").status_code == 200
        assert client.get("/health").status_code == 503
        failing = False
        wait_for_status(client, 200, "/health/live")


def test_check_interval_has_jitter_and_does_not_depend_on_probes(run_service: Any) -> None:
    times: list[float] = []

    @obs.readiness_check("counted", interval=0.2)
    def counted() -> None:
        times.append(time.monotonic())

    with run_service() as (client, _):
        deadline = time.monotonic() + 2.0
        probes = 0
        while time.monotonic() < deadline:
            assert client.get("/health/ready").status_code in (200, 503)
            probes += 1
    intervals = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert probes > 100
    assert 7 <= len(times) <= 13
    assert len({round(interval, 4) for interval in intervals}) > 1
    assert sum(intervals) / len(intervals) > 0.17  # an interval is shorter after a run that started late


def test_first_pass_is_detected_within_a_second_despite_a_long_interval(run_service: Any) -> None:
    available = False

    @obs.readiness_check("late", interval=60)
    def late() -> None:
        if not available:
            raise ConnectionError("refused")

    with run_service() as (client, _):
        wait_for_status(client, 503)
        available = True
        wait_for_status(client, 200, seconds=3)


def test_critical_shared_check_is_warned_about_at_startup(run_service: Any) -> None:
    @obs.readiness_check("main-db", scope="shared")
    def main_db() -> None: ...

    @obs.readiness_check("cache", scope="shared", critical=False)
    def cache() -> None: ...

    with run_service() as (client, captured):
        wait_for_status(client, 200)
        [line] = [line for line in captured.logs if line["severity"] == "WARN"]
    assert "main-db is critical and shared" in line["message"]
    assert "all instances leave rotation at the same time" in line["message"]


def test_exhausted_thread_pool_fails_sync_checks_but_no_async_checks(run_service: Any) -> None:
    released = threading.Event()
    for number in range(18):
        obs.readiness_check(f"hangs-{number}", critical=False, timeout=0.2)(lambda: released.wait(10))

    @obs.readiness_check("fine")
    async def fine() -> None: ...

    with run_service(environment="development") as (client, _):
        wait_for(lambda: "every thread for checks is busy" in client.get("/health/ready").text)
        body = client.get("/health/ready").json()
        wait_for(lambda: client.get("/health/ready/fine").status_code == 200)
        released.set()
    assert sum("busy" in entry.get("description", "") for entry in body["entries"].values()) == 2


def test_outgoing_calls_of_checks_create_no_telemetry(run_service: Any) -> None:
    suppressed = []

    @obs.readiness_check("sync")
    def sync() -> None:
        suppressed.append(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))

    @obs.readiness_check("async")
    async def asynchronous() -> None:
        suppressed.append(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))

    with run_service() as (client, captured):
        wait_for_status(client, 200)
    assert suppressed == [True, True]
    assert captured.spans == []


def test_slow_check_is_logged_once(run_service: Any) -> None:
    runs = 0

    @obs.readiness_check("slow", interval=0.1, timeout=0.2)
    def slow() -> None:
        nonlocal runs
        runs += 1
        time.sleep(0.15)

    with run_service() as (client, captured):
        wait_for_status(client, 200)
        wait_for(lambda: runs > 3)
    lines = [line for line in captured.logs if line["message"] == "health check slow is slow"]
    assert len(lines) == 1
    assert lines[0]["connectsoft.obs.seconds"] >= 0.15
