"""A process that cannot start threads, as in a container at its PID limit, continues to work and retries the start."""

from __future__ import annotations

import httpx
from support.otlp import HttpSink
from support.process import Service, uvicorn, wait_for
from support.scripts import run_script

INTERNAL_ERROR = "connectsoft_obs failed internally; the application is not affected"
REQUEST_COUNT = 'http_server_request_duration_seconds_count{http_request_method="GET",url_scheme="http",http_response_status_code="200",http_route="/items/{number}"'


def send_requests(service: Service, first: int, last: int) -> None:
    for number in range(first, last):
        assert httpx.get(f"{service.url}/items/{number}").text == "in stock"


def request_messages(service: Service) -> list[str]:
    return [line["message"] for line in service.json_lines if line["logger"] in ("shop", "connectsoft_obs.access")]


def test_service_retries_to_start_its_threads() -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with uvicorn("thread_limit:app", env=env) as service:
            service.wait_until_ready("/health/live")
            send_requests(service, 0, 50)
            wait_for(lambda: len(request_messages(service)) >= 100, 5)
            assert request_messages(service) == ["looked up", "GET /items/{number} 200"] * 50
            assert [
                line["connectsoft.obs.error"] for line in service.json_lines if line["message"] == INTERNAL_ERROR
            ] == ["RuntimeError: can't start new thread"]
            page = httpx.get(f"{service.url}/metrics").text
            assert [line.split()[1] for line in page.splitlines() if line.startswith(REQUEST_COUNT)] == ["50"]
            assert httpx.get(f"{service.url}/health/ready").status_code == 503, "the readiness check runs in a thread"
            assert not sink.received.spans

            httpx.get(f"{service.url}/lift-limit")
            service.wait_until_ready()
            send_requests(service, 50, 100)
            wait_for(lambda: len([span for span in sink.received.spans if span.name == "GET /items/{number}"]) == 100)
            assert service.stop() in (0, -15), service.output
        assert request_messages(service).count("GET /items/{number} 200") == 100


WORKER = """
import os, signal, threading
start_thread = threading.Thread.start
def raise_start_error(thread):
    if thread.name.startswith("obs-"):
        raise RuntimeError("can't start new thread")
    start_thread(thread)
threading.Thread.start = raise_start_error

import connectsoft_obs as obs

@obs.job("long")
def long_job():
    os.kill(os.getpid(), signal.SIGTERM)
    print("job completed", flush=True)

with obs.worker(service="thread-limit") as worker:
    while not worker.draining:
        long_job()
    print("worker ended", flush=True)
"""


def test_sigterm_does_not_interrupt_a_job_without_a_thread() -> None:
    result = run_script(WORKER)
    assert result.exit_code == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if not line.startswith("{")] == [
        "job completed",
        "worker ended",
    ]
    assert "run long success" in result.stdout
    assert "Traceback" not in result.stderr


MEMORY_LIMIT = """
import resource, signal, threading
import connectsoft_obs as obs
from connectsoft_obs.process import threads

@obs.job("import-file")
def import_file():
    pass

def mapped_bytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmSize:")) * 1024

threading.Thread(target=print, args=("",)).start()  # its stack is reused, so that the operating system permits a thread
telemetry = obs.configure(service="memory-limit")
import_file()
threads.START_TIMEOUT = 0.2
blocks = [bytes(200) for _ in range(20_000)]
blocks = blocks[::1000]  # memory for small objects stays mapped and free
signal.alarm(30)
unlimited = resource.RLIM_INFINITY
resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes(), unlimited))  # no memory for the first frame of a thread
import_file()
telemetry.serve()
import_file()
telemetry.flush(1)
assert threads.start_thread("obs-test", print) is None
resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))
threads._retry_at = 0
import_file()
assert telemetry.flush(5)
print("ended", flush=True)
"""


def test_start_of_a_thread_without_memory_does_not_hang() -> None:
    result = run_script(MEMORY_LIMIT)
    assert result.exit_code == 0, result.stderr[-3000:]
    assert result.stdout.count("run import-file success") == 4, result.stdout
    assert result.stdout.splitlines()[-1] == "ended"


WORKER_MEMORY_LIMIT = """
import resource, signal, threading, time
import connectsoft_obs as obs
from connectsoft_obs.process import threads

@obs.job("import-file")
def import_file():
    pass

def mapped_bytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmSize:")) * 1024

obs.configure(service="memory-limit")
import_file()
threads.START_TIMEOUT = 0.2
blocks = [bytes(200) for _ in range(20_000)]
blocks = blocks[::1000]  # memory for small objects stays mapped and free
signal.alarm(60)
unlimited = resource.RLIM_INFINITY
resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes(), unlimited))
with obs.worker() as worker:
    for _ in range(3):
        import_file()
    assert threads.start_thread("obs-test", print) is None
    resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))
    threads._retry_at = 0
    import_file()
print("ended", flush=True)
"""


def test_worker_continues_without_memory_for_threads() -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
        result = run_script(WORKER_MEMORY_LIMIT, env=env)
        assert result.exit_code == 0, result.stderr[-3000:]
        assert result.stdout.count("run import-file success") == 5, result.stdout
        assert result.stdout.splitlines()[-1] == "ended"
        assert [span.name for span in sink.received.spans] == ["run import-file"] * 5
