"""Access to the endpoints: who may see failure reasons, metrics and build information."""

from __future__ import annotations

import hmac
import ipaddress

from connectsoft_obs.endpoints.request_response import UNIX_SOCKET, EndpointRequest
from connectsoft_obs.settings import Settings
from connectsoft_obs.settings.parsers import Network

_PROXY_HEADERS = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via"}
)
_INTERNAL_SUFFIXES = (".svc", ".local", ".internal", ".localhost")
"""Suffixes of host names that are not in the public DNS: cluster services, mDNS, private networks."""
_HTTP_1_0 = ("1.0", "1")  # granian reports `1`
_DEFAULT_PORTS = ("", "80", "443")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AccessPolicy:
    """Decides who may see details, `/metrics` and `/info`. Immutable and thread-safe.

    Args:
        settings: has the tokens and the allowed networks.
        development: allows details for all clients.
    """

    def __init__(self, settings: Settings, development: bool) -> None:
        self._details_token = _encode(settings.details_token)
        self._metrics_token = _encode(settings.metrics_token)
        self._details_networks = settings.details_networks
        self._trusted_proxies = settings.trusted_proxies
        self._development = development
        self._metrics_public = settings.metrics_public

    def allows_details(self, request: EndpointRequest) -> bool:
        """Return whether failure reasons may be shown: in development, with the token, or to an allowed network."""
        return self._development or self._has_details_access(request)

    def denial_reason(self, request: EndpointRequest) -> str | None:
        """Return why a request for metrics or build information is denied, or None if it is allowed.

        It is allowed for clients in the same network that connect directly, for those that may see details or
        have a token, and for all if `metrics_public` is set.
        """
        if self._metrics_public or self.allows_details(request) or _has_bearer_token(request, self._metrics_token):
            return None
        return self._proxy_indication(request) or _internet_indication(request)

    def has_metrics_token(self, request: EndpointRequest) -> bool:
        """Return whether the request has the token for `/metrics`, or none is required."""
        return self._metrics_token is None or _has_bearer_token(request, self._metrics_token)

    def has_details_token(self, request: EndpointRequest) -> bool:
        """Return whether the request has the details token."""
        return _has_bearer_token(request, self._details_token)

    def _has_details_access(self, request: EndpointRequest) -> bool:
        if self.has_details_token(request):
            return True
        return (
            bool(self._details_networks)
            and not self._proxy_indication(request)
            and (_is_in(self._details_networks, _parse_address(request.peer)))
        )

    def _proxy_indication(self, request: EndpointRequest) -> str | None:
        """Return why a request is assumed to have passed a proxy, or None."""
        if _PROXY_HEADERS & request.headers.keys():
            return "it has a header of a proxy"
        if _is_in(self._trusted_proxies, _parse_address(request.peer)):
            return "its peer is a trusted proxy"
        if request.http_version in _HTTP_1_0:  # nginx, with `proxy_pass` and nothing else
            return "it uses HTTP/1.0, as proxies do"
        return None


def _internet_indication(request: EndpointRequest) -> str | None:
    """Return why a request that has not passed a proxy may come from the internet, or None."""
    if request.peer == UNIX_SOCKET:
        return "it comes through a Unix socket"
    address = _parse_address(request.peer)
    if address is not None and address.is_global:
        return "its peer has a public address"
    host = request.headers.get(b"host", b"").decode("latin-1").strip().lower()
    name, _, port = host.partition(":") if not host.startswith("[") else host[1:].partition("]")
    if (literal := _parse_address(name)) is not None:
        return "its host is a public address" if literal.is_global else None
    is_internal = "." not in name or name.endswith(_INTERNAL_SUFFIXES) or port not in _DEFAULT_PORTS
    return None if is_internal else "its host is a public name"


def _is_in(networks: tuple[Network, ...], address: Address | None) -> bool:
    return address is not None and any(address in network for network in networks)


def _parse_address(text: str | None) -> Address | None:
    """Return an IP address, an IPv4-mapped one as IPv4, or None."""
    try:
        address = ipaddress.ip_address((text or "").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _encode(token: str | None) -> bytes | None:
    return None if token is None else token.encode()


def _has_bearer_token(request: EndpointRequest, token: bytes | None) -> bool:
    """Return whether a request has the bearer token. The comparison takes constant time."""
    value = request.headers.get(b"authorization", b"")
    return token is not None and value[:7].lower() == b"bearer " and hmac.compare_digest(value[7:].strip(), token)
