"""Application Insights' end: takes envelopes, keeps them, and misbehaves as the faulty collector does."""

from __future__ import annotations

import gzip
import json
import socket
from typing import Any

from support.faulty_collector import Faulty

KEY = "00000000-0000-0000-0000-0000feedbeef"


class Ingestion(Faulty):
    """An ingestion endpoint on a loopback port.

    Modes are those of `Faulty`, and `page` (a proxy's answer), `partial` (takes all but the first of each batch),
    `away:URL` (redirects there).
    """

    def __init__(self, mode: str = "ok") -> None:
        self.items: list[dict[str, Any]] = []
        self.paths: set[str] = set()
        super().__init__(mode)
        self.connection_string = f"InstrumentationKey={KEY};IngestionEndpoint={self.url}/"

    def __enter__(self) -> Ingestion:
        return self

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The envelopes of one kind: `RequestData`, `MetricData`, ..."""
        return [item for item in list(self.items) if item["data"]["baseType"] == kind]

    def named(self, kind: str, name: str) -> list[dict[str, Any]]:
        """Those of one kind with one name."""
        return [item for item in self.of(kind) if item["data"]["baseData"]["name"] == name]

    def metric(self, name: str) -> list[dict[str, Any]]:
        """Every point of a metric, with its properties."""
        return [
            {**item["data"]["baseData"]["metrics"][0], "properties": item["data"]["baseData"]["properties"]}
            for item in self.of("MetricData")
            if item["data"]["baseData"]["metrics"][0]["name"] == name
        ]

    def _answer(self, connection: socket.socket, path: str, body: bytes, headers: dict[str, str]) -> bool:
        mode, _, argument = self.mode.partition(":")
        if mode == "page":
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>")
            return True
        if mode == "away":
            connection.sendall(f"HTTP/1.1 308 away\r\nlocation: {argument}{path}\r\ncontent-length: 0\r\n\r\n".encode())
            return True
        if mode == "partial":
            self._take(path, body, headers)
            refused = self.items.pop()
            content = json.dumps(
                {
                    "itemsReceived": 1,
                    "itemsAccepted": 0,
                    "errors": [{"index": 0, "statusCode": 400, "message": f"no {refused['name']}"}],
                }
            ).encode()
            head = b"HTTP/1.1 206 some\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            connection.sendall(head % len(content) + content)
            return True
        return super()._answer(connection, path, body, headers)

    def _take(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        content = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        items = json.loads(content)
        self.paths.add(path)
        self.items += items
        return json.dumps({"itemsReceived": len(items), "itemsAccepted": len(items), "errors": []}).encode()
