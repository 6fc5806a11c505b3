"""Request and response types of the endpoints, independent of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

JSON = "application/json"
TEXT_PLAIN = "text/plain; charset=utf-8"
UNIX_SOCKET = "unix:"
_NO_STORE = (b"cache-control", b"no-store")


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """One request to one endpoint.

    Args:
        method: GET, HEAD or PUT, upper case.
        query: raw query string, without the question mark.
        headers: lower-case names; of a repeated header the last value.
        peer: address of the other end of the socket, or `UNIX_SOCKET`, if known.
        http_version: `1.0`, `1.1`, `2` or `3`.
    """

    method: str
    query: bytes = b""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    peer: str | None = None
    http_version: str = "1.1"


@dataclass(frozen=True, slots=True)
class EndpointResponse:
    """Response of an endpoint. `headers` are sent besides content type, length and `Cache-Control: no-store`."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """Return all headers of the response."""
        length = str(len(self.body)).encode()
        return [
            (b"content-type", self.content_type.encode("latin-1")),
            (b"content-length", length),
            _NO_STORE,
            (b"x-content-type-options", b"nosniff"),
            *self.headers,
        ]


NOT_FOUND = EndpointResponse(404, TEXT_PLAIN, b"Not Found")
UNAUTHORIZED = EndpointResponse(401, TEXT_PLAIN, b"Unauthorized", ((b"www-authenticate", b"Bearer"),))
INTERNAL_SERVER_ERROR = EndpointResponse(500, TEXT_PLAIN, b"Internal Server Error")
DEGRADED_FALLBACK = EndpointResponse(
    200,
    JSON,
    b'{"status":"Degraded","totalDuration":"00:00:00","entries":{},"ApplicationHealthState":"Healthy"}',
)
"""Response to a probe if the health report fails: an internal error must neither restart a service nor stop its traffic."""
