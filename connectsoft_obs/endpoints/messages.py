"""A question to an endpoint and the answer, without any server's types."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from connectsoft_obs.settings import Settings

_FORWARDED = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via"}
)
JSON = "application/json"
_NO_STORE = (b"cache-control", b"no-store")


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """One request to one endpoint.

    Args:
        method: GET, HEAD or PUT, upper case.
        query: raw query string, without the question mark.
        headers: lower-case names; of a repeated header the last value.
        peer: address of the socket's other end, if known.
    """

    method: str
    query: bytes = b""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    peer: str | None = None


@dataclass(frozen=True, slots=True)
class EndpointResponse:
    """What is answered. `headers` come besides content type, length and `Cache-Control: no-store`."""

    status: int
    kind: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """Every header of the response."""
        length = str(len(self.body)).encode()
        return [
            (b"content-type", self.kind.encode("latin-1")),
            (b"content-length", length),
            _NO_STORE,
            (b"x-content-type-options", b"nosniff"),
            *self.headers,
        ]


PLAIN = "text/plain; charset=utf-8"
NOT_FOUND = EndpointResponse(404, PLAIN, b"Not Found")
UNAUTHORIZED = EndpointResponse(401, PLAIN, b"Unauthorized", ((b"www-authenticate", b"Bearer"),))
DEGRADED_FALLBACK = EndpointResponse(
    200,
    JSON,
    b'{"status":"Degraded","totalDuration":"00:00:00","entries":{},"ApplicationHealthState":"Healthy"}',
)
"""What a prober is told when our own report fails: a bug of ours is no reason to restart a process, or to send it nothing."""
FAILED = EndpointResponse(500, PLAIN, b"Internal Server Error")


class AccessPolicy:
    """Who may see details, `/metrics` and `/info`. Immutable and thread-safe."""

    def __init__(self, settings: Settings, development: bool) -> None:
        self._token = _bytes(settings.details_token)
        self._metrics_token = _bytes(settings.metrics_token)
        self._networks = settings.details_networks
        self._development = development
        self._public = settings.metrics_public

    def details(self, asked: EndpointRequest) -> bool:
        """Whether reasons may be in the answer: in development, with the token, or from an allowed network."""
        return self._development or self._proven(asked)

    def internal(self, asked: EndpointRequest) -> bool:
        """Whether metrics and build facts may be shown: to whoever did not come through a proxy, or may see details."""
        return (
            self._public
            or not (_FORWARDED & asked.headers.keys())
            or self.details(asked)
            or _bears(asked, self._metrics_token)
        )

    def metrics(self, asked: EndpointRequest) -> bool:
        """Whether the token that `/metrics` demands was given, if it demands one."""
        return self._metrics_token is None or _bears(asked, self._metrics_token)

    def has_details_token(self, asked: EndpointRequest) -> bool:
        """Whether whoever asks holds the details token."""
        return _bears(asked, self._token)

    def _proven(self, asked: EndpointRequest) -> bool:
        if self.has_details_token(asked):
            return True
        return bool(self._networks) and not (_FORWARDED & asked.headers.keys()) and self._from_network(asked.peer)

    def _from_network(self, peer: str | None) -> bool:
        try:
            address = ipaddress.ip_address((peer or "").partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)


def _bytes(token: str | None) -> bytes | None:
    return None if token is None else token.encode()


def _bears(asked: EndpointRequest, token: bytes | None) -> bool:
    """Whether a request has the bearer token; compared in a time that does not depend on what was guessed right."""
    given = asked.headers.get(b"authorization", b"")
    return token is not None and given[:7].lower() == b"bearer " and hmac.compare_digest(given[7:].strip(), token)
