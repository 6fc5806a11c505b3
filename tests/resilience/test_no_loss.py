"""Each request is exported once as spans, log records and metrics, also if the service stops under load."""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter

import pytest
from support.otlp import HttpSink
from support.process import Service, uvicorn, wait_for
from support.servers import program_path


class TelemetryCounter:
    """Counts received spans and log records incrementally."""

    def __init__(self, sink: HttpSink) -> None:
        self._requests = sink.received.requests
        self._next_request = 0
        self.spans: Counter[str] = Counter()
        self.log_lines: Counter[str] = Counter()
        self.span_ids: Counter[bytes] = Counter()

    def update(self) -> int:
        """Count the requests received since the last call; return the total number of server spans."""
        while self._next_request < len(self._requests):
            path, message = self._requests[self._next_request]
            self._next_request += 1
            if path == "/v1/traces":
                spans = [
                    span
                    for resource in message.resource_spans
                    for scope in resource.scope_spans
                    for span in scope.spans
                ]
                self.spans.update(span.name for span in spans)
                self.span_ids.update(span.span_id for span in spans)
            elif path == "/v1/logs":
                for resource in message.resource_logs:
                    for scope in resource.scope_logs:
                        self.log_lines.update(record.body.string_value for record in scope.log_records)
        return self.spans["GET /items/{id}"]


def stop_load(load: subprocess.Popen[str]) -> int:
    """Stop wrk and return the number of responses, all of which must be successful."""
    load.send_signal(signal.SIGINT)
    output = load.communicate(timeout=30)[0]
    assert "Non-2xx" not in output, output
    match = re.search(r"(\d+) requests in", output)
    assert match is not None, output
    return int(match[1])


def discard_output(service: Service) -> bool:
    service.stdout_lines.clear()
    return True


def check_exact_delivery(min_requests: int, seconds: float) -> None:
    with HttpSink() as sink:
        counter = TelemetryCounter(sink)
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_LOGS_EXPORTER": "otlp",
        }
        with uvicorn("four_signals:app", "--no-access-log", env=environment) as service:
            service.wait_until_ready()
            command = [program_path("wrk"), "-t1", "-c16", "-d600s", f"{service.url}/items/7"]
            load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                wait_for(
                    lambda: discard_output(service) and counter.update() >= min_requests,
                    seconds,
                    f"{min_requests} spans",
                )
                service.stop(seconds=30)
            finally:
                count = stop_load(load)
            reports = [line for line in service.json_lines if line["message"] == "final drop count"]
        counter.update()
        metric = sink.received.metric("http.server.request.duration")
        counts = [point.count for point in metric.histogram.data_points]
        assert [line["spans_dropped"] for line in reports] == [0]
        assert count >= min_requests
        assert counter.spans == {"GET /items/{id}": count, "run price": count}
        assert len(counter.span_ids) == 2 * count, "a span was exported twice"
        assert counter.log_lines["GET /items/{id} 200"] == counter.log_lines["priced"] == count
        assert sum(counts) == count


def test_ten_thousand_requests_are_delivered_exactly_once() -> None:
    check_exact_delivery(10_000, 60)


@pytest.mark.full
def test_a_hundred_thousand_requests_are_delivered_exactly_once() -> None:
    check_exact_delivery(100_000, 400)
