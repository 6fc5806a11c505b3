"""The example with two services: HTTP, a real RabbitMQ, a consumer, a job, and every outcome."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
from support.brokers import Broker
from support.otlp import HttpSink, decode_attributes
from support.process import Service, free_port, wait_for
from support.scrape import scrape

EXAMPLE = Path(__file__).parents[2] / "examples" / "orders_and_mail"

ORDERS: dict[str, list[dict[str, Any]]] = {
    "mailed": [{"order": 1}, {"order": 2}],
    "failing": [{"order": 3, "mail": "refused"}],
    "retried": [{"order": 4, "mail": "refused once"}],
    "timed out": [{"order": 5, "mail": "slow"}],
    "cancelled": [{"order": 6, "mail": "slow"}, {"cancel": 6}],
}


def span_names_by_trace(spans: list[Any]) -> dict[bytes, list[str]]:
    """The span names of each trace in the order of their start times."""
    by_trace: dict[bytes, list[Any]] = defaultdict(list)
    for span in spans:
        by_trace[span.trace_id].append(span)
    return {
        trace_id: [span.name for span in sorted(trace, key=lambda span: span.start_time_unix_nano)]
        for trace_id, trace in by_trace.items()
    }


def test_request_message_and_job_share_a_trace_and_are_counted_once(rabbitmq: Broker) -> None:
    web_port, port = free_port(), free_port()
    with HttpSink() as sink:
        env = {
            "BROKER": rabbitmq.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
        }
        mailer = [sys.executable, str(EXAMPLE / "mailer.py")]
        shop = [sys.executable, "-m", "uvicorn", "shop:app", "--app-dir", str(EXAMPLE), "--port", str(web_port)]
        web_env = {name: value for name, value in env.items() if name != "OTEL_EXPORTER_PROMETHEUS_PORT"}
        with Service(mailer, port, env) as worker, Service(shop, web_port, web_env) as web:
            worker.wait_until_ready(seconds=20)
            web.wait_until_ready(seconds=20)
            sent_count = 0
            for order in (order for orders in ORDERS.values() for order in orders):
                if "cancel" in order:
                    wait_for(lambda: scrape(worker.url).sum("connectsoft_job_active") >= 1, 5)
                assert httpx.post(f"{web.url}/orders", json=order).status_code == 202
                sent_count += 1
            assert httpx.post(f"{web.url}/orders", content=b"no json").status_code == 202
            sent_count += 1
            # Of the 8 messages, three are delivered twice: the failing one, the retried one and the one that times out.
            expected = {"success": 4, "failure": 3, "timeout": 2, "aborted": 1, "rejected": 1}

            def outcomes() -> dict[str, float]:
                counts = scrape(worker.url).values_by("connectsoft_message_outcomes_total", "connectsoft_outcome")
                return {outcome: count for (outcome,), count in counts.items()}

            wait_for(lambda: outcomes() == expected, 15, f"{expected}")
            worker_metrics, web_metrics = scrape(worker.url), scrape(web.url)
            assert web_metrics.sum("messaging_client_sent_messages_total") == sent_count == 8
            assert web_metrics.sum("http_server_request_duration_seconds_count", http_route="/orders") == sent_count
            assert worker_metrics.sum("messaging_client_consumed_messages_total") == sent_count + 3
            assert worker_metrics.sum("messaging_process_duration_seconds_count") == sent_count + 3
            assert worker_metrics.sum("connectsoft_message_wait_duration_seconds_count") == sent_count + 3
            assert worker_metrics.job_runs() == {
                ("send-mail", "success", ""): 3,
                ("send-mail", "failure", "ConnectionError"): 3,
                ("send-mail", "aborted", "cancelled"): 3,
            }
            assert worker_metrics.sum("connectsoft_job_active") == 0
            assert worker.stop() == 0, worker.output[-2000:]
            assert web.stop() in (0, -15), web.output[-2000:]
        spans = sink.received.spans
    traces = list(span_names_by_trace(spans).values())
    assert traces.count(["POST /orders", "send orders", "process orders", "run send-mail"]) == 6
    assert traces.count(["POST /orders", "send orders", "process orders"]) == 2, "the cancellation and the invalid JSON"
    assert traces.count(["process orders", "run send-mail"]) == 3, "a redelivery has its own trace"
    spans_by_id = {span.span_id: span for span in spans}
    redeliveries = [span for span in spans if span.name == "process orders" and not span.parent_span_id]
    for span in redeliveries:
        [link] = span.links
        assert spans_by_id[link.span_id].name == "send orders"
        assert decode_attributes(span.attributes)["connectsoft.message.delivery_count"] == 2


def test_show_script_prints_the_complete_trace(rabbitmq: Broker) -> None:
    env = {**os.environ, "BROKER": rabbitmq.url}
    result = subprocess.run(
        [sys.executable, str(EXAMPLE / "show.py")], env=env, capture_output=True, text=True, timeout=90
    )
    assert result.returncode == 0, result.stdout + result.stderr
    trace = result.stdout.partition("TRACE")[2].partition("LOGS")[0]
    assert [
        name for name in ("POST /orders", "send orders", "process orders", "run send-mail") if name not in trace
    ] == []
