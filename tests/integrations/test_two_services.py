"""The example with two services, as users would run it: HTTP, a real RabbitMQ, a consumer, a job, and each way to end."""

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


def trees(spans: list[Any]) -> dict[bytes, list[str]]:
    """The names of the spans of each trace, from the root down."""
    by_trace: dict[bytes, list[Any]] = defaultdict(list)
    for span in spans:
        by_trace[span.trace_id].append(span)
    return {
        trace: [span.name for span in sorted(found, key=lambda one: one.start_time_unix_nano)]
        for trace, found in by_trace.items()
    }


def test_from_the_request_to_the_job_every_ending_is_told_once_and_in_one_trace(rabbitmq: Broker) -> None:
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
            sent = 0
            for order in (order for orders in ORDERS.values() for order in orders):
                if "cancel" in order:
                    wait_for(lambda: scrape(worker.url).sum("connectsoft_job_active") >= 1, 5)
                assert httpx.post(f"{web.url}/orders", json=order).status_code == 202
                sent += 1
            assert httpx.post(f"{web.url}/orders", content=b"no json").status_code == 202
            sent += 1
            # Of the 8 sent, three are delivered twice: the failing, the retried and the one that takes too long.
            expected = {"success": 4, "failure": 3, "timeout": 2, "aborted": 1, "rejected": 1}

            def outcomes() -> dict[str, float]:
                found = scrape(worker.url).values_by("connectsoft_message_outcomes_total", "connectsoft_outcome")
                return {outcome: number for (outcome,), number in found.items()}

            wait_for(lambda: outcomes() == expected, 15, f"{expected}")
            page, front = scrape(worker.url), scrape(web.url)
            assert front.sum("messaging_client_sent_messages_total") == sent == 8
            assert front.sum("http_server_request_duration_seconds_count", http_route="/orders") == sent
            assert page.sum("messaging_client_consumed_messages_total") == sent + 3
            assert page.sum("messaging_process_duration_seconds_count") == sent + 3
            assert page.sum("connectsoft_message_wait_duration_seconds_count") == sent + 3
            assert page.job_runs() == {
                ("send-mail", "success", ""): 3,
                ("send-mail", "failure", "ConnectionError"): 3,
                ("send-mail", "aborted", "cancelled"): 3,
            }
            assert page.sum("connectsoft_job_active") == 0
            assert worker.stop() == 0, worker.output[-2000:]
            assert web.stop() in (0, -15), web.output[-2000:]
        spans = sink.received.spans
    found = list(trees(spans).values())
    assert found.count(["POST /orders", "send orders", "process orders", "run send-mail"]) == 6
    assert found.count(["POST /orders", "send orders", "process orders"]) == 2, "the withdrawal, and what is no JSON"
    assert found.count(["process orders", "run send-mail"]) == 3, "what is delivered again has a trace of its own"
    by_id = {span.span_id: span for span in spans}
    again = [span for span in spans if span.name == "process orders" and not span.parent_span_id]
    for span in again:
        [link] = span.links
        assert by_id[link.span_id].name == "send orders"
        assert decode_attributes(span.attributes)["connectsoft.message.delivery_count"] == 2


def test_the_example_shows_itself(rabbitmq: Broker) -> None:
    env = {**os.environ, "BROKER": rabbitmq.url}
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE / "show.py")], env=env, capture_output=True, text=True, timeout=90
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    trace = ran.stdout.partition("TRACE")[2].partition("LOGS")[0]
    assert [
        name for name in ("POST /orders", "send orders", "process orders", "run send-mail") if name not in trace
    ] == []
