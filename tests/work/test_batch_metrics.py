"""Metrics of short-lived processes, in a real Pushgateway and in textfiles of node-exporter."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from support.otlp import HttpSink, decode_attributes
from support.process import free_port
from support.scripts import ScriptResult, run_script
from support.servers import program_path, running_server

import connectsoft_obs as obs
from connectsoft_obs.settings import load_settings

SCRIPT = """
import sys
import connectsoft_obs as obs

rows = obs.counter("report.rows", unit="{row}", help="Number of rows.")

@obs.job("other", schedule="0 3 * * *")
def other():
    pass

@obs.job(sys.argv[1], schedule="0 2 * * *")
def run():
    rows.add(5)
    if sys.argv[2] == "fail":
        sys.exit(1)

run()
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    port = free_port()
    command = [program_path("prometheus-pushgateway"), f"--web.listen-address=127.0.0.1:{port}"]
    with running_server(command, port):
        yield f"http://127.0.0.1:{port}"


def run_job(job: str, end: str = "succeed", service: str = "reports", **env: str) -> ScriptResult:
    return run_script(SCRIPT, job, end, env={"OTEL_SERVICE_NAME": service, **env})


def series(page: str, name: str, job: str) -> dict[str, float]:
    """The values of a metric, by labels, of one service."""
    lines = re.findall(rf"^{name}{{(.*)}} (\S+)$", page, re.M)
    return {labels: float(value) for labels, value in lines if f'job="{job}"' in labels}


def check_metrics(page: str) -> None:
    command = [program_path("promtool"), "check", "metrics"]
    completed = subprocess.run(command, input=page, capture_output=True, text=True, timeout=20, check=False)
    assert completed.returncode == 0, completed.stderr


LAST_RUN = "connectsoft_job_last_run_timestamp_seconds"
LAST_SUCCESS = "connectsoft_job_last_success_timestamp_seconds"
NEXT_EXPECTED = "connectsoft_job_next_expected_timestamp_seconds"


def test_concurrent_jobs_do_not_overwrite_each_other(gateway: str) -> None:
    started = time.time()
    with ThreadPoolExecutor() as pool:
        runs = [("invoices", "reports"), ("mail/daily", "reports"), ("invoices", "shop")]
        results = list(
            pool.map(lambda run: run_job(run[0], service=run[1], CONNECTSOFT_OBS_PUSHGATEWAY_URL=gateway), runs)
        )
    assert [(result.exit_code, result.stderr) for result in results] == [(0, "")] * 3
    page = httpx.get(f"{gateway}/metrics").text
    for service, jobs in (("reports", ["invoices", "mail/daily"]), ("shop", ["invoices"])):
        for name in (LAST_RUN, LAST_SUCCESS, NEXT_EXPECTED):
            timestamps = series(page, name, service)
            assert sorted(timestamps) == [f'connectsoft_job_name="{job}",instance="",job="{service}"' for job in jobs]
            assert min(timestamps.values()) >= started - 1
        assert series(page, "report_rows_total", service) == {f'instance="",job="{service}"': 5}


def test_failed_run_keeps_the_time_of_the_last_success(gateway: str, tmp_path: Path) -> None:
    env = {"CONNECTSOFT_OBS_PUSHGATEWAY_URL": gateway, "CONNECTSOFT_OBS_METRICS_TEXTFILE_DIRECTORY": str(tmp_path)}

    def pages() -> list[str]:
        [file] = tmp_path.glob("*invoices*.prom")
        return [httpx.get(f"{gateway}/metrics").text, file.read_text()]

    run_job("invoices", service="failing", **env)
    first = [(series(page, LAST_RUN, "failing"), series(page, LAST_SUCCESS, "failing")) for page in pages()]
    assert run_job("invoices", "fail", service="failing", **env).exit_code == 1
    second = [(series(page, LAST_RUN, "failing"), series(page, LAST_SUCCESS, "failing")) for page in pages()]
    for (run_before, success_before), (run_after, success_after) in zip(first, second, strict=True):
        assert len(success_before) == 1
        assert success_after == success_before
        assert list(run_after.values()) > list(run_before.values())


def test_textfiles_are_valid_and_complete(tmp_path: Path) -> None:
    env = {
        "CONNECTSOFT_OBS_METRICS_TEXTFILE_DIRECTORY": str(tmp_path),
        "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=saas,service.instance.id=host-1",
    }
    (tmp_path / "job=saas%2Freports,instance=host-1.prom").write_text("not { valid")
    run_job("mail/daily", **env)
    run_job("invoices", **env)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [
        "job=saas%2Freports,instance=host-1,connectsoft_job_name=invoices.prom",
        "job=saas%2Freports,instance=host-1,connectsoft_job_name=mail%2Fdaily.prom",
        "job=saas%2Freports,instance=host-1.prom",
    ]
    for name in files:
        check_metrics((tmp_path / name).read_text())
    page = "".join((tmp_path / name).read_text() for name in files)
    samples = [line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples)), "node-exporter rejects all textfiles if a series exists twice"
    assert all('instance="host-1",job="saas/reports"' in sample for sample in samples)


def test_concurrent_reads_of_a_textfile_see_a_complete_file(tmp_path: Path) -> None:
    env = {"CONNECTSOFT_OBS_METRICS_TEXTFILE_DIRECTORY": str(tmp_path)}
    run_job("invoices", **env)
    [file] = tmp_path.glob("*invoices*.prom")
    lines = len(file.read_text().splitlines())
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(run_job, "invoices", **env) for _ in range(2)]
        while not all(run.done() for run in runs):
            assert len(file.read_text().splitlines()) == lines
    assert [path.suffix for path in tmp_path.iterdir()] == [".prom", ".prom"]


def test_gateway_that_does_not_respond_delays_the_end_within_the_budget() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://user:secret-password@127.0.0.1:{silent.getsockname()[1]}"
        env = {"CONNECTSOFT_OBS_PUSHGATEWAY_URL": url, "CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT": "2"}
        begin = time.monotonic()
        result = run_job("invoices", **env)
        assert time.monotonic() - begin < 20
    assert result.exit_code == 0
    assert result.stderr == ""
    messages = [line["message"] for line in result.json_lines if line["severity"] == "WARN"]
    assert len(messages) == 1, result.stdout
    assert messages[0] in (
        "metrics were not pushed to the Pushgateway", "metrics of this process were not written in time",
    )  # fmt: skip
    assert "secret-password" not in result.stdout


def test_unusable_outputs_do_not_change_the_job(tmp_path: Path) -> None:
    env = {
        "CONNECTSOFT_OBS_PUSHGATEWAY_URL": f"http://127.0.0.1:{free_port()}",
        "CONNECTSOFT_OBS_METRICS_TEXTFILE_DIRECTORY": str(tmp_path / "missing"),
    }
    with HttpSink() as sink:
        result = run_job("invoices", "fail", OTEL_EXPORTER_OTLP_ENDPOINT=sink.url, **env)
        errors = {
            decode_attributes(point.attributes)["connectsoft.obs.where"]: point.as_int or point.as_double
            for point in sink.received.metric("connectsoft.obs.errors").sum.data_points
        }
    assert result.exit_code == 1
    assert result.stderr == ""
    assert errors == {"metrics.pushgateway": 1, "metrics.textfile": 2}
    warnings = sorted(message for message in result.messages() if message.startswith("metrics were"))
    assert warnings == [
        "metrics were not pushed to the Pushgateway",
        "metrics were not written to the textfile directory",
    ]


def test_gateway_url_contains_encoded_credentials() -> None:
    requests: list[tuple[str | None, str]] = []

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            requests.append((self.headers["authorization"], self.path))
            self.send_response(200)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://user%40shop:p%3Ass%2Fword@127.0.0.1:{server.server_port}/gateway"
        result = run_job("invoices", CONNECTSOFT_OBS_PUSHGATEWAY_URL=url)
        server.shutdown()
    credentials = "Basic " + base64.b64encode(b"user@shop:p:ss/word").decode()
    assert requests == [
        (credentials, "/gateway/metrics/job/reports/connectsoft_job_name/invoices"),
        (credentials, "/gateway/metrics/job/reports"),
    ]
    assert "metrics were" not in result.stdout


def test_invalid_gateway_url_is_a_configuration_error() -> None:
    with pytest.raises(obs.ConfigurationError, match="does not start with http"):
        load_settings({}, pushgateway_url="grpc://gateway:9091")
