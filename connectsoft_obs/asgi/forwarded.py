"""What a trusted proxy says of the original request: client, host and scheme.

Reads `Forwarded` (RFC 7239) and the `X-Forwarded-*` headers, from the right: each trusted proxy vouches for the entry it
added, and the first address that is no proxy of ours is the client.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from connectsoft_obs.settings.parsers import Network

_KEPT = 1024
_MOST = 32
_PAIR = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,]*)\s*')
_SCHEMES = frozenset({"http", "https", "ws", "wss"})


class ForwardedInfo(NamedTuple):
    """What is known of the request as the client made it; None where nothing is."""

    client: str | None
    host: bytes | None
    scheme: str | None


NOTHING = ForwardedInfo(None, None, None)


class Forwarded:
    """Believes the networks it was given. Thread-safe; its cache of addresses stops growing when full."""

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._trusted)

    def original(self, peer: str, headers: dict[bytes, bytes]) -> ForwardedInfo:
        """What the proxies say, if the peer is one of ours."""
        if not self._is_trusted(peer):
            return NOTHING
        if (value := headers.get(b"forwarded")) is not None:
            return self._standard(value.decode("latin-1"))
        client = self._first([_address(part) for part in _parts(headers.get(b"x-forwarded-for"))])
        host = headers.get(b"x-forwarded-host", b"").rpartition(b",")[2].strip()
        scheme = headers.get(b"x-forwarded-proto", b"").rpartition(b",")[2].strip().lower().decode("latin-1")
        return ForwardedInfo(client, host or None, scheme if scheme in _SCHEMES else None)

    def _standard(self, value: str) -> ForwardedInfo:
        entries = [dict(_PAIR.findall(element.lower())) for element in value.split(",")[-_MOST:]]
        client = self._first([_address(entry.get("for", "").strip('"')) for entry in entries])
        last = entries[-1] if entries else {}
        host, scheme = last.get("host", "").strip('"'), last.get("proto", "").strip('"')
        return ForwardedInfo(client, host.encode("latin-1") or None, scheme if scheme in _SCHEMES else None)

    def _first(self, addresses: list[str | None]) -> str | None:
        found = None
        for address in reversed(addresses):
            if address is None:
                break  # a proxy of ours that hides, or a stranger's text: what is left of it proves nothing
            found = address
            if not self._is_trusted(address):
                break
        return found

    def _is_trusted(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            parsed = _parsed(address)
            known = parsed is not None and any(parsed in network for network in self._trusted)
            if len(self._known) < _KEPT:
                self._known[address] = known
        return known


def _parts(value: bytes | None) -> list[str]:
    return (value or b"").decode("latin-1").split(",")[-_MOST:]


def _address(text: str) -> str | None:
    """The IP address of `1.2.3.4`, `1.2.3.4:80`, `[::1]:80` or `::1`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return text if _parsed(text) is not None else None


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
