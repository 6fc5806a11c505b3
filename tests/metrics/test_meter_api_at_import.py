"""Measurements of the OpenTelemetry Meter API at import, before the settings or even a meter provider exist."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
from support.otlp import HttpSink
from support.process import uvicorn
from support.scrape import scrape
from support.scripts import run_script

import connectsoft_obs as obs

RECORDS = """
meter = metrics.get_meter("shop")
loaded = meter.create_counter("rows.loaded", unit="{row}")
size = meter.create_histogram("file.size", unit="By")
loaded.add(1000, {"table": "orders"})
meter.create_up_down_counter("pool.size").add(3)
meter.create_gauge("model.generation").set(7)
size.record(4096)
meter.create_observable_gauge("queue.depth", [lambda options: [metrics.Observation(5)]])
"""
FIRST_USE = "log = obs.get_logger()\n"
FIRST_TELEMETRY = "obs.get_logger().info('importing')\n"
MIDDLEWARE = "app.add_middleware(obs.ObservabilityMiddleware, service='orders')\n"
APP = """
import connectsoft_obs as obs
from opentelemetry import metrics
from starlette.applications import Starlette

app = Starlette()
@STATEMENTS@
loaded.add(1, {"table": "orders"})
size.record(1)
"""


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(FIRST_TELEMETRY + RECORDS + MIDDLEWARE, id="first-telemetry"),
        pytest.param(FIRST_USE + RECORDS + MIDDLEWARE + FIRST_TELEMETRY, id="before-the-telemetry"),
        pytest.param(MIDDLEWARE + RECORDS, id="after-the-middleware"),
    ],
)
def test_meter_api_at_import_continues_under_the_middleware_settings(statements: str, tmp_path: Path) -> None:
    (tmp_path / "meter_at_import.py").write_text(APP.replace("@STATEMENTS@", statements))
    path = os.pathsep.join([str(tmp_path), str(Path(obs.__file__).parents[1])])
    with HttpSink() as sink:
        env = {"PYTHONPATH": path, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        with uvicorn("meter_at_import:app", env=env) as service:
            service.wait_until_ready()
            page = scrape(service.url)
            service.stop()
        assert page.sum("rows_loaded_total", table="orders") == 1001
        assert page.sum("file_size_bytes_count") == 2
        assert (page.sum("pool_size"), page.sum("model_generation"), page.sum("queue_depth")) == (3, 7, 5)
        assert [point.as_int for point in sink.received.metric("rows.loaded").sum.data_points] == [1001]
        assert {resource["service.name"] for resource in sink.received.resources} == {"orders"}


USES_THE_METER_API_FIRST = """
import connectsoft_obs as obs
from opentelemetry import metrics
log = obs.get_logger()
meter = metrics.get_meter("shop")
counter, gauge = meter.create_counter("orders"), meter.create_gauge("generation")

def samples(*names):
    import urllib.request
    with obs.worker(service="orders", prometheus_port=0) as worker:
        page = urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/metrics").read().decode()
    return [line for line in page.splitlines() if line.startswith(names)]
"""


def test_provider_of_the_application_gets_no_earlier_measurements() -> None:
    result = run_script(f"""{USES_THE_METER_API_FIRST}
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
counter.add(5)
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
counter.add(1)
obs.configure(service="orders")
counter.add(1)
[resource] = reader.get_metrics_data().resource_metrics
print([point.value for scope in resource.scope_metrics for metric in scope.metrics for point in metric.data.data_points])
""")
    assert result.stdout.splitlines()[-1] == "[2]", result.stderr


def test_measurements_beyond_the_limit_are_counted_as_dropped() -> None:
    result = run_script(f"""{USES_THE_METER_API_FIRST}
for _ in range(10_003):
    counter.add(1)
print(samples("orders_total ", 'connectsoft_obs_dropped_total{{connectsoft_obs_signal="metrics"'))
""")
    assert "'orders_total 10000.0'" in result.stdout, result.stderr
    assert """connectsoft_obs_reason="before_start"} 3.0'""" in result.stdout


def test_forked_child_keeps_earlier_gauges_and_counts_from_zero() -> None:
    result = run_script(f"""{USES_THE_METER_API_FIRST}
import os
counter.add(5)
gauge.set(7)
child = os.fork()
counter.add(1)
if not child:
    print("child", samples("orders_total ", "generation "), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent", samples("orders_total ", "generation "))
""")
    lines = [line for line in result.stdout.splitlines() if line.startswith(("child", "parent"))]
    assert [sorted(ast.literal_eval(line.split(" ", 1)[1])) for line in lines] == [
        ["generation 7.0", "orders_total 1.0"],
        ["generation 7.0", "orders_total 6.0"],
    ], result.stderr
