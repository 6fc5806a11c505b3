"""Which build of which service this is."""

from __future__ import annotations

import datetime

import orjson

from connectsoft_obs.endpoints.asked import JSON, Answered
from connectsoft_obs.identity import Identity


def page(identity: Identity, started: float) -> Answered:
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
    return Answered(200, JSON, orjson.dumps({key: value for key, value in body.items() if value is not None}))
