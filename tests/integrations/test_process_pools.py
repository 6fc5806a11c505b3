"""Jobs in process pools of a worker count on the page of the worker, however the pool starts and ends its processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.otlp import HttpSink
from support.process import APPS
from support.scrape import MetricsPage


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("executor", "fork"),
        ("executor", "forkserver"),
        ("pool", "spawn"),
        pytest.param("pool", "fork", marks=pytest.mark.full),
        pytest.param("pool", "forkserver", marks=pytest.mark.full),
        pytest.param("executor", "spawn", marks=pytest.mark.full),
        pytest.param("scheduler", "fork", marks=pytest.mark.full),
        pytest.param("scheduler", "spawn", marks=pytest.mark.full),
    ],
)
def test_jobs_in_a_process_pool_count_on_the_page_of_the_worker(kind: str, method: str) -> None:
    command = [sys.executable, str(APPS / "process_pools.py"), kind, method]
    with HttpSink() as sink:
        env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=env)
    page = MetricsPage("\n".join(line for line in result.stdout.splitlines() if not line.startswith("{")))
    assert page.job_runs() == {("part", "success", ""): 8, ("part", "failure", "ValueError"): 1}, result.stderr[-3000:]
    assert page.sum("connectsoft_job_active") == 0
    assert page.sum("connectsoft_obs_errors_total") == 0
    if kind != "pool":  # the block of a Pool ends its processes with SIGTERM
        assert [span.name for span in sink.received.spans].count("run part") == 9
