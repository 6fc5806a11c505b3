"""The info page: name, version and build of the service."""

from __future__ import annotations

import datetime

import orjson

from connectsoft_obs.endpoints.request_response import JSON, EndpointResponse
from connectsoft_obs.identity import ResourceIdentity


def info_page(identity: ResourceIdentity, started: float) -> EndpointResponse:
    """Return service, namespace, version, revision, environment and start time as JSON.

    Args:
        identity: identity of the service.
        started: start time in seconds since 1970.
    """
    start_time = datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds")
    body = {
        "service": identity.service,
        "namespace": identity.namespace,
        "version": identity.version,
        "revision": identity.revision,
        "environment": identity.environment,
        "started": start_time.replace("+00:00", "Z"),
    }
    return EndpointResponse(200, JSON, orjson.dumps({key: value for key, value in body.items() if value is not None}))
