"""The reference page, /metrics and OTLP exports name the same metrics. Run this file as a script to regenerate the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from support.exposition import scrape
from support.otlp import HttpSink
from support.process import Service, free_port, gunicorn, uvicorn, wait_for

from connectsoft_obs.vocabulary.reference_table import metrics_table

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "metrics.md"
START, END = "<!-- generated from connectsoft_obs.vocabulary -->\n", "<!-- end -->\n"
COUNTED_ONCE = ("process.cpu.time", "process.memory.usage", "process.thread.count", "cpython.gc.collections")


def with_current_table(text: str) -> str:
    """Return the page with a newly generated table."""
    before, _, rest = text.partition(START)
    return f"{before}{START}{metrics_table()}{END}{rest.partition(END)[2]}"


def reference_names() -> list[tuple[str, str]]:
    """The OpenTelemetry name ("" if there is none) and the Prometheus name of each row of the page."""
    table = PAGE.read_text().partition(START)[2].partition(END)[0]
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    return [("" if cells[0].startswith("| *") else cells[0].strip("| `"), cells[1].strip("`")) for cells in rows]


def run_job_worker(env: dict[str, str]) -> Service:
    import sys

    port = free_port()
    env = {**env, "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    return Service([sys.executable, "-m", "metrics_reference_worker"], port, env)


PROCESSES: dict[str, Callable[[dict[str, str]], Service]] = {
    "web process": lambda env: uvicorn("orders:app", env=env),
    "several workers": lambda env: gunicorn("orders:app", workers=3, env=env),
    "job worker": run_job_worker,
}


def test_metrics_reference_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert text == with_current_table(text), f"docs/reference/metrics.md is out of date; run python {__file__}"


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("process", PROCESSES)
def test_reference_page_and_export_name_the_same_metrics(process: str, openmetrics: bool, tmp_path: Path) -> None:
    reference = reference_names()
    names = {name for name, _ in reference if name}
    assert len(names) == len([name for name, _ in reference if name])
    assert len({family for _, family in reference}) == len(reference)
    with HttpSink() as sink:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
            "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path),
        }
        with PROCESSES[process](env) as service:
            service.wait_until_ready()
            for number in range(20):
                httpx.get(f"{service.url}/items/{number}")
            # The first export contains neither its own duration nor a sample of the event loop's lag.
            last = "connectsoft.obs.export.duration" if process == "job worker" else "connectsoft.event_loop.lag"
            wait_for(lambda: sink.received.metric("connectsoft.obs.export.duration"), 15, "the second export")
            wait_for(lambda: sink.received.metric(last), 15, "all metrics are exported")
            page = scrape(service.url, openmetrics)
            exported = {
                (metric.name, scope.scope.name)
                for path, message in list(sink.received.requests)
                for resource in (message.resource_metrics if path == "/v1/metrics" else ())
                for scope in resource.scope_metrics
                for metric in scope.metrics
            }
    on_page = set(re.findall(r"^# TYPE (\S+) ", page.text, re.MULTILINE))
    if openmetrics:
        types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page.text, re.MULTILINE))
        suffixes = {"counter": "_total", "info": "_info"}
        on_page = {family + suffixes.get(type_, "") for family, type_ in types.items()}
    assert on_page <= {family for _, family in reference}
    assert {name for name, _ in exported} <= names
    assert {scope for _, scope in exported} == {"connectsoft_obs"}, "no metric is exported twice"
    # Each metric is on the page if it is exported, and exported if it is on the page. One export can precede the scrape.
    pairs = {(name, family) for name, family in reference if family in on_page or (name, "connectsoft_obs") in exported}
    without_name = {family for name, family in pairs if not name}
    assert without_name == {"target_info", "python_info"}
    missing = {pair for pair in pairs if pair[0] and (pair[0], "connectsoft_obs") not in exported}
    assert not missing, "on the page, and not exported"
    assert not {pair for pair in pairs if pair[1] not in on_page}, "exported, and not on the page"
    for name in COUNTED_ONCE:
        assert name in {exported_name for exported_name, _ in exported}, name
    assert not [family for family in on_page if family.startswith("python_gc")]


if __name__ == "__main__":
    PAGE.write_text(with_current_table(PAGE.read_text()))
