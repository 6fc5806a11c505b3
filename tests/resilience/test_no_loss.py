"""Nothing is broken: what the clients count is what arrives, to the last request before an orderly stop under load."""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter

import pytest
from support.otlp import HttpSink
from support.process import Service, uvicorn, wait_for


class Tally:
    """Counts what has arrived, each request of the exporter once."""

    def __init__(self, sink: HttpSink) -> None:
        self._requests = sink.received.requests
        self._seen = 0
        self.spans: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()
        self.ids: Counter[bytes] = Counter()

    def arrived(self) -> int:
        """How many server spans there are so far."""
        while self._seen < len(self._requests):
            path, message = self._requests[self._seen]
            self._seen += 1
            if path == "/v1/traces":
                spans = [s for r in message.resource_spans for scope in r.scope_spans for s in scope.spans]
                self.spans.update(span.name for span in spans)
                self.ids.update(span.span_id for span in spans)
            elif path == "/v1/logs":
                for resource in message.resource_logs:
                    for scope in resource.scope_logs:
                        self.lines.update(record.body.string_value for record in scope.log_records)
        return self.spans["GET /items/{id}"]


def answered(load: subprocess.Popen[str]) -> int:
    """How many responses the clients have had, and all of them good."""
    load.send_signal(signal.SIGINT)
    said = load.communicate(timeout=30)[0]
    assert "Non-2xx" not in said, said
    found = re.search(r"(\d+) requests in", said)
    assert found is not None, said
    return int(found[1])


def read_away(service: Service) -> bool:
    service.out.clear()
    return True


def serve_until(number: int, seconds: float) -> None:
    with HttpSink() as sink:
        tally = Tally(sink)
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_LOGS_EXPORTER": "otlp",
        }
        with uvicorn("four_signals:app", "--no-access-log", env=environment) as service:
            service.ready()
            command = ["wrk", "-t1", "-c16", "-d600s", f"{service.url}/items/7"]
            load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                wait_for(lambda: read_away(service) and tally.arrived() >= number, seconds, f"{number} spans")
                service.stop(seconds=30)
            finally:
                count = answered(load)
            account = [line for line in service.lines if line["message"] == "final account"]
        tally.arrived()
        metric = sink.received.metric("http.server.request.duration")
        points = [point.count for point in metric.histogram.data_points]
        assert [line["spans_dropped"] for line in account] == [0]
        assert count >= number
        assert tally.spans == {"GET /items/{id}": count, "run price": count}
        assert len(tally.ids) == 2 * count, "no span twice"
        assert tally.lines["GET /items/{id} 200"] == tally.lines["priced"] == count
        assert sum(points) == count


def test_ten_thousand_requests_and_a_stop_under_load_arrive_exactly() -> None:
    serve_until(10_000, 60)


@pytest.mark.full
def test_a_hundred_thousand_requests_and_a_stop_under_load_arrive_exactly() -> None:
    serve_until(100_000, 400)
