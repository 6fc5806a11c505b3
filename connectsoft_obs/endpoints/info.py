"""Which build of which service this is."""

from __future__ import annotations

import datetime

import orjson

from connectsoft_obs.endpoints.messages import JSON, EndpointResponse
from connectsoft_obs.identity import ResourceIdentity


def page(identity: ResourceIdentity, started: float) -> EndpointResponse:
    """Which build of which service this is; nothing secret."""
    when = datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds")
    body = {
        "service": identity.service,
        "namespace": identity.namespace,
        "version": identity.version,
        "revision": identity.revision,
        "environment": identity.environment,
        "started": when.replace("+00:00", "Z"),
    }
    return EndpointResponse(200, JSON, orjson.dumps({key: value for key, value in body.items() if value is not None}))
