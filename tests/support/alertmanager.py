"""Runs Alertmanager with the generated configuration and a webhook receiver that records notifications."""

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
from support.servers import program_path, running_server


class Alertmanager:
    """A running Alertmanager and the notifications that it sent."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.notifications: list[tuple[str, str]] = []
        """Receiver and alert name of each firing notification, in order."""

    def send_alerts(self, *alert_labels: dict[str, str]) -> None:
        """Post alerts with these labels, as Prometheus does."""
        body = [{"labels": labels, "annotations": {}} for labels in alert_labels]
        httpx.post(f"http://{self.address}/api/v2/alerts", json=body, timeout=5).raise_for_status()

    def alert_states(self) -> dict[str, str]:
        """Return `active` or `suppressed` for each alert name; an inhibited alert is suppressed."""
        alerts: list[dict[str, Any]] = httpx.get(f"http://{self.address}/api/v2/alerts", timeout=5).json()
        return {alert["labels"]["alertname"]: alert["status"]["state"] for alert in alerts}


@contextmanager
def run_alertmanager(configuration: str) -> Iterator[Alertmanager]:
    """Run Alertmanager with a configuration, whose receivers are set to a local webhook."""
    port = free_port()
    manager = Alertmanager(port)

    class WebhookReceiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            manager.notifications += [
                (self.path.strip("/"), alert["labels"]["alertname"])
                for alert in content["alerts"]
                if alert["status"] == "firing"
            ]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), WebhookReceiver) as webhook, tempfile.TemporaryDirectory() as directory:
        threading.Thread(target=webhook.serve_forever, daemon=True).start()
        content = yaml.safe_load(configuration)
        for receiver in content["receivers"]:
            url = f"http://127.0.0.1:{webhook.server_address[1]}/{receiver['name']}"
            receiver["webhook_configs"] = [{"url": url}]
        configuration_file = Path(directory) / "alertmanager.yaml"
        configuration_file.write_text(json.dumps(content))
        command = [
            program_path("prometheus-alertmanager"),
            f"--config.file={configuration_file}",
            f"--storage.path={directory}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        with running_server(command, port):
            wait_for(lambda: httpx.get(f"http://{manager.address}/-/ready", timeout=5).status_code == 200, 20)
            yield manager
        webhook.shutdown()
