"""Runs both services, sends orders and prints their telemetry: `BROKER=amqp://... python show.py`. Needs a RabbitMQ.

The orders produce every outcome. The output compares what the mailer counted with what was sent, and shows the trace of
one order from the request to the job.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from connectsoft_obs.demo import render
from connectsoft_obs.demo.collector import Collector

EXAMPLE = Path(__file__).parent
ORDERS: dict[str, list[dict[str, Any]]] = {
    # First, so that the active job that is waited for before the cancellation can only be this order.
    "cancelled while it is processed": [{"order": 6, "mail": "slow"}, {"cancel": 6}],
    "mailed": [{"order": 1}, {"order": 2}],
    "refused by the mail server, twice": [{"order": 3, "mail": "refused"}],
    "refused once, then mailed": [{"order": 4, "mail": "refused once"}],
    "timed out, twice": [{"order": 5, "mail": "slow"}],
}
EXPECTED = {"success": 4, "failure": 3, "timeout": 2, "aborted": 1, "rejected": 1}
"""Outcomes of the deliveries: three orders are delivered twice, and one message is not JSON."""

_OUTCOME_SAMPLE = re.compile(r'connectsoft_message_outcomes_total\{.*connectsoft_outcome="(\w+)".*\} ([\d.]+)')
_ACTIVE_SAMPLE = re.compile(r'connectsoft_job_active\{.*connectsoft_job_name="send-mail".*\} [1-9]')


def main() -> int:
    """Run the services, send the orders, print the results; exit code 0 if the outcomes are as expected."""
    collector = Collector()
    web_port, worker_port = _free_port(), _free_port()
    env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    mailer = subprocess.Popen(
        [sys.executable, str(EXAMPLE / "mailer.py")],
        env={**env, "OTEL_EXPORTER_PROMETHEUS_PORT": str(worker_port)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    shop = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "shop:app", "--app-dir", str(EXAMPLE), "--port", str(web_port)],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for port in (worker_port, web_port):
            _wait_until(lambda port=port: _is_ready(port), f"port {port} is ready")  # type: ignore[misc]
        for orders in ORDERS.values():
            for order in orders:
                if "cancel" in order:
                    _wait_until(lambda: _is_mailing(worker_port), "the order is processed")
                httpx.post(f"http://127.0.0.1:{web_port}/orders", json=order)
        httpx.post(f"http://127.0.0.1:{web_port}/orders", content=b"not json")
        _wait_until(lambda: sum(_outcomes(worker_port).values()) >= sum(EXPECTED.values()), "all orders are processed")
        outcomes = _outcomes(worker_port)
    finally:
        shop.terminate()
        mailer.terminate()
        mailer_output, _ = mailer.communicate(timeout=20)
        shop.wait(20)
        collector.close()
    print("SENT\n" + "\n".join(f"  {title:<36}{len(orders)}" for title, orders in ORDERS.items()))
    print("  not JSON                            1\n\nCOUNTED BY THE MAILER (connectsoft_message_outcomes_total)")
    print(
        "\n".join(f"  {outcome:<12}{count:.0f}   expected {EXPECTED[outcome]}" for outcome, count in outcomes.items())
    )
    print("\nTRACE (over OTLP, from both services)\n" + "\n".join(render.format_trace(collector.largest_trace())))
    print("\nLOGS OF THE MAILER\n" + "\n".join(render.format_last_lines(mailer_output.splitlines(), 6)))
    return 0 if outcomes == EXPECTED else 1


def _outcomes(port: int) -> dict[str, float]:
    page = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return {outcome: float(count) for outcome, count in _OUTCOME_SAMPLE.findall(page)}


def _is_mailing(port: int) -> bool:
    return _ACTIVE_SAMPLE.search(httpx.get(f"http://127.0.0.1:{port}/metrics").text) is not None


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def _wait_until(condition: Callable[[], bool], description: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:g} s: {description}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    raise SystemExit(main())
