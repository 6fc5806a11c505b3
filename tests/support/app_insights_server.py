"""A fake Application Insights ingestion endpoint that stores envelopes and can simulate failures."""

from __future__ import annotations

import gzip
import json
import socket
from typing import Any

from support.faulty_collector import FaultyCollector

INSTRUMENTATION_KEY = "00000000-0000-0000-0000-0000feedbeef"


class AppInsightsServer(FaultyCollector):
    """An ingestion endpoint on a loopback port.

    Modes are those of `FaultyCollector`, and `page` (answers with an HTML page, as a proxy does), `partial` (rejects the
    first envelope of each batch), `redirect:URL` (redirects to that server).
    """

    def __init__(self, mode: str = "ok") -> None:
        self.envelopes: list[dict[str, Any]] = []
        self.request_paths: set[str] = set()
        super().__init__(mode)
        self.connection_string = f"InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint={self.url}/"

    def __enter__(self) -> AppInsightsServer:
        return self

    def envelopes_of(self, base_type: str) -> list[dict[str, Any]]:
        """The envelopes of one base type: `RequestData`, `MetricData`, ..."""
        return [envelope for envelope in list(self.envelopes) if envelope["data"]["baseType"] == base_type]

    def envelopes_named(self, base_type: str, name: str) -> list[dict[str, Any]]:
        """The envelopes of one base type with a name."""
        return [envelope for envelope in self.envelopes_of(base_type) if envelope["data"]["baseData"]["name"] == name]

    def metric_points(self, name: str) -> list[dict[str, Any]]:
        """Every data point of a metric, with its properties."""
        return [
            {**data["metrics"][0], "properties": data["properties"]}
            for data in (envelope["data"]["baseData"] for envelope in self.envelopes_of("MetricData"))
            if data["metrics"][0]["name"] == name
        ]

    def _respond(self, connection: socket.socket, path: str, body: bytes, headers: dict[str, str]) -> bool:
        mode, _, argument = self.mode.partition(":")
        if mode == "page":
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>")
            return True
        if mode == "redirect":
            head = f"HTTP/1.1 308 Permanent Redirect\r\nlocation: {argument}{path}\r\ncontent-length: 0\r\n\r\n"
            connection.sendall(head.encode())
            return True
        if mode == "partial":
            self._store(path, body, headers)
            rejected = self.envelopes.pop()
            content = json.dumps(
                {
                    "itemsReceived": 1,
                    "itemsAccepted": 0,
                    "errors": [{"index": 0, "statusCode": 400, "message": f"no {rejected['name']}"}],
                }
            ).encode()
            status = b"HTTP/1.1 206 Partial Content\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            connection.sendall(status % len(content) + content)
            return True
        return super()._respond(connection, path, body, headers)

    def _store(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        content = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        envelopes = json.loads(content)
        self.request_paths.add(path)
        self.envelopes += envelopes
        return json.dumps({"itemsReceived": len(envelopes), "itemsAccepted": len(envelopes), "errors": []}).encode()
