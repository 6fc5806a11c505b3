"""Access to the endpoints: who may see failure reasons, metrics and build information."""

from __future__ import annotations

import hmac
import ipaddress

from connectsoft_obs.endpoints.request_response import EndpointRequest
from connectsoft_obs.settings import Settings

_PROXY_HEADERS = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via"}
)


class AccessPolicy:
    """Decides who may see details, `/metrics` and `/info`. Immutable and thread-safe.

    Args:
        settings: has the tokens and the allowed networks.
        development: allows details to everyone.
    """

    def __init__(self, settings: Settings, development: bool) -> None:
        self._details_token = _encode(settings.details_token)
        self._metrics_token = _encode(settings.metrics_token)
        self._details_networks = settings.details_networks
        self._development = development
        self._metrics_public = settings.metrics_public

    def allows_details(self, request: EndpointRequest) -> bool:
        """Return whether failure reasons may be shown: in development, with the token, or to an allowed network."""
        return self._development or self._has_details_access(request)

    def allows_internal(self, request: EndpointRequest) -> bool:
        """Return whether metrics and build information may be shown.

        They are shown to requests that did not pass a proxy, to those that may see details, and if they are public.
        """
        return (
            self._metrics_public
            or not (_PROXY_HEADERS & request.headers.keys())
            or self.allows_details(request)
            or _has_bearer_token(request, self._metrics_token)
        )

    def has_metrics_token(self, request: EndpointRequest) -> bool:
        """Return whether the request has the token for `/metrics`, or none is required."""
        return self._metrics_token is None or _has_bearer_token(request, self._metrics_token)

    def has_details_token(self, request: EndpointRequest) -> bool:
        """Return whether the request has the details token."""
        return _has_bearer_token(request, self._details_token)

    def _has_details_access(self, request: EndpointRequest) -> bool:
        if self.has_details_token(request):
            return True
        passed_proxy = bool(_PROXY_HEADERS & request.headers.keys())
        return bool(self._details_networks) and not passed_proxy and self._is_in_details_networks(request.peer)

    def _is_in_details_networks(self, peer: str | None) -> bool:
        try:
            address = ipaddress.ip_address((peer or "").partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._details_networks)


def _encode(token: str | None) -> bytes | None:
    return None if token is None else token.encode()


def _has_bearer_token(request: EndpointRequest, token: bytes | None) -> bool:
    """Return whether a request has the bearer token. The comparison takes constant time."""
    value = request.headers.get(b"authorization", b"")
    return token is not None and value[:7].lower() == b"bearer " and hmac.compare_digest(value[7:].strip(), token)
