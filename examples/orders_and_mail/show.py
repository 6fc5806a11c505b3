"""Both services with traffic, and what they report: `BROKER=amqp://... python show.py`. Needs a RabbitMQ.

Sends orders that end in every way, waits until each has, and prints what the mailer counted beside what was sent, and
the trace of one order from the request to the job.
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

HERE = Path(__file__).parent
ORDERS: dict[str, list[dict[str, Any]]] = {
    # The first, so that what is active when it is withdrawn can only be this order.
    "withdrawn while it is processed": [{"order": 6, "mail": "slow"}, {"withdrawn": 6}],
    "mailed": [{"order": 1}, {"order": 2}],
    "refused by the mail server, twice": [{"order": 3, "mail": "refused"}],
    "refused once, then mailed": [{"order": 4, "mail": "refused once"}],
    "too slow, twice": [{"order": 5, "mail": "slow"}],
}
DELIVERED = {"success": 4, "failure": 3, "timeout": 2, "aborted": 1, "rejected": 1}
"""How the deliveries must end: three orders come twice, and one is no JSON."""

_SAMPLE = re.compile(r'connectsoft_message_outcomes_total\{.*connectsoft_outcome="(\w+)".*\} ([\d.]+)')
_ACTIVE = re.compile(r'connectsoft_job_active\{.*connectsoft_job_name="send-mail".*\} [1-9]')


def main() -> int:
    """Run, print, compare; exit code 0 when the mailer counted what was sent."""
    collector = Collector()
    web, side = _free_port(), _free_port()
    env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    mailer = subprocess.Popen(
        [sys.executable, str(HERE / "mailer.py")],
        env={**env, "OTEL_EXPORTER_PROMETHEUS_PORT": str(side)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    shop = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "shop:app", "--app-dir", str(HERE), "--port", str(web)],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for port in (side, web):
            _wait(lambda port=port: _ready(port), f"port {port} is ready")  # type: ignore[misc]
        for orders in ORDERS.values():
            for order in orders:
                if "withdrawn" in order:
                    _wait(lambda: _mailing(side), "the order is processed")
                httpx.post(f"http://127.0.0.1:{web}/orders", json=order)
        httpx.post(f"http://127.0.0.1:{web}/orders", content=b"no json")
        _wait(lambda: sum(_outcomes(side).values()) >= sum(DELIVERED.values()), "every order has ended")
        counted = _outcomes(side)
    finally:
        shop.terminate()
        mailer.terminate()
        said, _ = mailer.communicate(timeout=20)
        shop.wait(20)
        collector.close()
    print("SENT\n" + "\n".join(f"  {what:<36}{len(orders)}" for what, orders in ORDERS.items()))
    print("  no JSON                             1\n\nCOUNTED BY THE MAILER (connectsoft_message_outcomes_total)")
    print(
        "\n".join(f"  {outcome:<12}{number:.0f}   expected {DELIVERED[outcome]}" for outcome, number in counted.items())
    )
    print("\nTRACE (over OTLP, from both services)\n" + "\n".join(render.tree(collector.last_trace())))
    print("\nLOGS OF THE MAILER\n" + "\n".join(render.lines(said.splitlines(), 6)))
    return 0 if counted == DELIVERED else 1


def _outcomes(port: int) -> dict[str, float]:
    page = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return {outcome: float(number) for outcome, number in _SAMPLE.findall(page)}


def _mailing(port: int) -> bool:
    return _ACTIVE.search(httpx.get(f"http://127.0.0.1:{port}/metrics").text) is not None


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def _wait(done: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    raise SystemExit(main())
