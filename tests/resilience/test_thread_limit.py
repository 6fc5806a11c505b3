"""A machine that refuses threads, as a container at its limit of processes does: nothing depends on getting one at once."""

from __future__ import annotations

import httpx
from support.otlp import HttpSink
from support.process import Service, uvicorn, wait_for
from support.scripts import run

FAILED = "connectsoft_obs failed internally; the application is not affected"
COUNT = 'http_server_request_duration_seconds_count{http_request_method="GET",url_scheme="http",http_response_status_code="200",http_route="/items/{number}"'


def asked(service: Service, first: int, last: int) -> None:
    for number in range(first, last):
        assert httpx.get(f"{service.url}/items/{number}").text == "here"


def said(service: Service) -> list[str]:
    return [line["message"] for line in service.lines if line["logger"] in ("shop", "connectsoft_obs.access")]


def test_a_service_without_threads_answers_logs_and_counts_and_catches_up_when_there_are_some() -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with uvicorn("thread_limit:app", env=env) as service:
            service.ready("/health/live")
            asked(service, 0, 50)
            wait_for(lambda: len(said(service)) >= 100, 5)
            assert said(service) == ["looked up", "GET /items/{number} 200"] * 50
            assert [line["error"] for line in service.lines if line["message"] == FAILED] == [
                "RuntimeError: can't start new thread"
            ]
            page = httpx.get(f"{service.url}/metrics").text
            assert [line.split()[1] for line in page.splitlines() if line.startswith(COUNT)] == ["50"]
            assert httpx.get(f"{service.url}/health/ready").status_code == 503, "the check did not run"
            assert not sink.received.spans

            httpx.get(f"{service.url}/room")
            service.ready()
            asked(service, 50, 100)
            wait_for(lambda: len([one for one in sink.received.spans if one.name == "GET /items/{number}"]) == 100)
            assert service.stop() in (0, -15), service.said
        assert said(service).count("GET /items/{number} 200") == 100


WORKER = """
import os, signal, threading
start = threading.Thread.start
def refused(thread):
    if thread.name.startswith("obs-"):
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = refused

import connectsoft_obs as obs

@obs.job("long")
def long():
    os.kill(os.getpid(), signal.SIGTERM)
    print("worked to its end", flush=True)

with obs.worker(service="refused") as worker:
    while not worker.draining:
        long()
    print("ended", flush=True)
"""


def test_a_sigterm_interrupts_no_job_although_there_is_no_thread_to_wait_for_it() -> None:
    ended = run(WORKER)
    assert ended.code == 0, ended.err
    assert [line for line in ended.out.splitlines() if not line.startswith("{")] == ["worked to its end", "ended"]
    assert "run long success" in ended.out
    assert "Traceback" not in ended.err
