"""Alertmanager with the generated configuration, and a receiver that keeps what it is told."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from support.process import free_port, wait_for
from support.servers import program, running


class Alertmanager:
    """A running Alertmanager, its API, and what its receivers were told."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.told: list[tuple[str, str]] = []
        """Receiver and name of each alert that fired, in order."""

    def send(self, *labels: dict[str, str]) -> None:
        """Alerts as Prometheus posts them."""
        body = [{"labels": one, "annotations": {}} for one in labels]
        httpx.post(f"http://{self.address}/api/v2/alerts", json=body, timeout=5).raise_for_status()

    def states(self) -> dict[str, str]:
        """Of each alert, `active`, or `suppressed` when another silences it."""
        found: list[dict[str, Any]] = httpx.get(f"http://{self.address}/api/v2/alerts", timeout=5).json()
        return {one["labels"]["alertname"]: one["status"]["state"] for one in found}


@contextmanager
def alertmanager(configuration: str) -> Iterator[Alertmanager]:
    """Alertmanager whose receivers are filled in."""
    port = free_port()
    made = Alertmanager(port)

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.told += [
                (self.path.strip("/"), alert["labels"]["alertname"])
                for alert in content["alerts"]
                if alert["status"] == "firing"
            ]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as sink, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        content = yaml.safe_load(configuration)
        for receiver in content["receivers"]:
            url = f"http://127.0.0.1:{sink.server_address[1]}/{receiver['name']}"
            receiver["webhook_configs"] = [{"url": url}]
        (Path(folder) / "alertmanager.yaml").write_text(json.dumps(content))
        command = [
            program("prometheus-alertmanager"),
            f"--config.file={Path(folder) / 'alertmanager.yaml'}",
            f"--storage.path={folder}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        with running(command, port):
            wait_for(lambda: httpx.get(f"http://{made.address}/-/ready", timeout=5).status_code == 200, 20)
            yield made
        sink.shutdown()
