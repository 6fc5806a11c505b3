"""Client, host and scheme of the original request, as reported by trusted proxies.

Reads `Forwarded` (RFC 7239) and the `X-Forwarded-*` headers from right to left: each trusted proxy is trusted for the
entry that it has added, and the first address that does not belong to a trusted proxy is the client.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from connectsoft_obs.settings.parsers import Network

_MAX_CACHED_ADDRESSES = 1024
_MAX_ENTRIES = 32
_PAIR = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,]*)\s*')
_SCHEMES = frozenset({"http", "https", "ws", "wss"})


class ForwardedInfo(NamedTuple):
    """Client address, host and scheme of the request as the client sent it. A value that is not reported is None."""

    client: str | None
    host: bytes | None
    scheme: str | None


NO_FORWARDED_INFO = ForwardedInfo(None, None, None)


class ForwardedHeaders:
    """Reads forwarded headers of requests from trusted proxies. Thread-safe.

    Args:
        trusted: networks of the trusted proxies.
    """

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted
        self._is_trusted_by_address: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._trusted)

    def read(self, peer: str, headers: dict[bytes, bytes]) -> ForwardedInfo:
        """Return what the headers report, or nothing if `peer` is not a trusted proxy."""
        if not self._is_trusted(peer):
            return NO_FORWARDED_INFO
        if (value := headers.get(b"forwarded")) is not None:
            return self._read_standard_header(value.decode("latin-1"))
        client = self._find_client([_parse_address(entry) for entry in _split(headers.get(b"x-forwarded-for"))])
        host = headers.get(b"x-forwarded-host", b"").rpartition(b",")[2].strip()
        scheme = headers.get(b"x-forwarded-proto", b"").rpartition(b",")[2].strip().lower().decode("latin-1")
        return ForwardedInfo(client, host or None, scheme if scheme in _SCHEMES else None)

    def _read_standard_header(self, value: str) -> ForwardedInfo:
        entries = [dict(_PAIR.findall(element.lower())) for element in value.split(",")[-_MAX_ENTRIES:]]
        client = self._find_client([_parse_address(entry.get("for", "").strip('"')) for entry in entries])
        last = entries[-1] if entries else {}
        host, scheme = last.get("host", "").strip('"'), last.get("proto", "").strip('"')
        return ForwardedInfo(client, host.encode("latin-1") or None, scheme if scheme in _SCHEMES else None)

    def _find_client(self, addresses: list[str | None]) -> str | None:
        client = None
        for address in reversed(addresses):
            if address is None:
                break  # an obfuscated or malformed entry: the entries to the left of it cannot be trusted
            client = address
            if not self._is_trusted(address):
                break
        return client

    def _is_trusted(self, address: str) -> bool:
        is_trusted = self._is_trusted_by_address.get(address)
        if is_trusted is None:
            parsed = _parse_ip(address)
            is_trusted = parsed is not None and any(parsed in network for network in self._trusted)
            if len(self._is_trusted_by_address) < _MAX_CACHED_ADDRESSES:
                self._is_trusted_by_address[address] = is_trusted
        return is_trusted


def _split(value: bytes | None) -> list[str]:
    return (value or b"").decode("latin-1").split(",")[-_MAX_ENTRIES:]


def _parse_address(text: str) -> str | None:
    """Return the IP address of `1.2.3.4`, `1.2.3.4:80`, `[::1]:80` or `::1`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return text if _parse_ip(text) is not None else None


def _parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
