"""Series of declared jobs before their first run."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import pytest
from support.otlp import HttpSink
from support.process import uvicorn
from support.scrape import scrape

import connectsoft_obs as obs
from connectsoft_obs.signals.metrics import MetricRegistry
from connectsoft_obs.testing import capture
from connectsoft_obs.vocabulary import Instrument, Metric


@obs.job("declared-at-import", trigger="queue")
def declared_job() -> None: ...


def test_declared_job_has_series_with_value_zero_when_the_worker_starts() -> None:
    with capture() as captured, obs.worker(service="mailer", prometheus_port=0):
        assert captured.metric("connectsoft.job.duration", connectsoft_job_name="declared-at-import").series != ()
        assert captured.metric("connectsoft.job.duration", connectsoft_job_name="declared-at-import").count == 0
        assert captured.metric("connectsoft.job.active", connectsoft_job_name="declared-at-import").value == 0
        declared_job()
        assert captured.metric("connectsoft.job.duration", connectsoft_job_name="declared-at-import").count == 1


def test_job_declared_while_the_worker_runs_has_series() -> None:
    with capture() as captured, obs.worker(service="mailer", prometheus_port=0):

        @obs.job("declared-late")
        def late_job() -> None: ...

        assert captured.metric("connectsoft.job.active", connectsoft_job_name="declared-late").value == 0


def test_capture_without_a_worker_has_no_series_of_declared_jobs() -> None:
    with capture(service="other") as captured:
        obs.get_logger().info("begin")
        assert captured.metric("connectsoft.job.active", connectsoft_job_name="declared-at-import").series == ()


RECORDS_AT_IMPORT = """
import connectsoft_obs as obs
from starlette.applications import Starlette

generation = obs.gauge("model.generation")
generation.set(7)
loaded = obs.counter("rows.loaded", unit="{row}")
loaded.add(1000)
size = obs.histogram("file.size", unit="By", labels=("kind",))
size.record(4096, kind="csv")

@obs.job("warm-up")
def warm(): return 1

warm()
with obs.operation("build"):
    obs.configure(service="orders", version="2")
app = Starlette()
app.add_middleware(obs.ObservabilityMiddleware, service="orders")
"""


def test_measurements_at_import_continue_under_the_middleware_settings(tmp_path: Path) -> None:
    (tmp_path / "records_at_import.py").write_text(RECORDS_AT_IMPORT)
    path = os.pathsep.join([str(tmp_path), str(Path(obs.__file__).parents[1])])
    with HttpSink() as sink:
        env = {"PYTHONPATH": path, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        with uvicorn("records_at_import:app", env=env) as service:
            service.wait_until_ready()
            page = scrape(service.url)
            service.stop()
        assert page.sum("model_generation") == 7
        assert page.sum("rows_loaded_total") == 1000
        assert page.sum("file_size_bytes_count", kind="csv") == 1
        for job in ("warm-up", "build"):
            assert page.sum("connectsoft_job_duration_seconds_count", connectsoft_job_name=job) == 1
            assert page.sum("connectsoft_job_active", connectsoft_job_name=job) == 0
        assert "run warm-up" in {span.name for span in sink.received.spans}
        assert {resource["service.name"] for resource in sink.received.resources} == {"orders"}


@pytest.mark.parametrize("buckets", [(0.5, 2.0), (0.25, 0.5, 1.0, 2.0)])
def test_successor_with_other_buckets_receives_the_counts(buckets: tuple[float, ...]) -> None:
    first, second = (MetricRegistry(10, user_metrics={}) for _ in range(2))
    metric = Metric("file.age", Instrument.HISTOGRAM, "s", "Age.", (), (0.5, 2.0))
    for value in (0.1, 1.0, 5.0):
        first.family(metric).histogram_series().observe(value)
    family = second.family(dataclasses.replace(metric, buckets=buckets))
    family.histogram_series().observe(5.0)
    second.take_over(first, frozenset())
    assert family.histogram_series().cells.tolist()[0] == pytest.approx(11.1)
    counts = dict(zip((*buckets, math.inf), family.histogram_series().cells.tolist()[1:], strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {0.5: 1, 2.0: 1, math.inf: 2}
