"""How long the process serves after SIGTERM, and whether the platform leaves it that long."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from connectsoft_obs.identity import Platform, ResourceIdentity
from connectsoft_obs.settings import Settings

MARGIN: Final = 2.0
"""Seconds that a server needs besides: uvicorn's and gunicorn's loops look at their signals every 0.1 to 0.5 s."""


class Limits(NamedTuple):
    """What is known of a platform.

    Args:
        drain: seconds until its load balancers have noticed a 503: endpoint propagation on Kubernetes (5 s) with a
            probe period to spare; on App Service the old instance is out before it is told.
        grace: seconds from SIGTERM to SIGKILL by default.
        knob: where an operator changes that.
    """

    drain: float
    grace: float
    knob: str


LIMITS: Final = {
    Platform.AKS: Limits(10.0, 30.0, "terminationGracePeriodSeconds of the pod"),
    Platform.CONTAINER_APPS: Limits(10.0, 30.0, "template.terminationGracePeriodSeconds of the container app"),
    Platform.APP_SERVICE: Limits(2.0, 5.0, "the app setting WEBSITES_CONTAINER_STOP_TIME_LIMIT"),
    Platform.VM: Limits(0.0, 90.0, "TimeoutStopSec= of the systemd unit"),
}


def drain_delay(settings: Settings, identity: ResourceIdentity) -> float:
    """Seconds to serve after SIGTERM: the setting, else the platform's, none in development and under a reloader."""
    if settings.drain_delay is not None:
        return settings.drain_delay
    if identity.environment == "development" or is_reloader() or identity.platform not in LIMITS:
        return 0.0
    return LIMITS[identity.platform].drain


def grace_period(settings: Settings, identity: ResourceIdentity, environ: Mapping[str, str]) -> float | None:
    """Seconds from SIGTERM to SIGKILL where they are known: the setting, else what the platform says, else its default."""
    if settings.termination_grace_period is not None:
        return settings.termination_grace_period
    if identity.platform is Platform.APP_SERVICE:
        given = environ.get("WEBSITES_CONTAINER_STOP_TIME_LIMIT", "")
        if given.isdigit():
            return float(given)
    limits = LIMITS.get(identity.platform)
    return None if limits is None else limits.grace


def exceeds_grace_period(settings: Settings, identity: ResourceIdentity, environ: Mapping[str, str]) -> str:
    """What to change because the process can be killed while it stops, or "" when it cannot as far as is known."""
    grace = grace_period(settings, identity, environ)
    if grace is None:
        return ""
    delay = drain_delay(settings, identity)
    needed = delay + settings.max_request_duration + settings.shutdown_timeout + MARGIN
    if needed <= grace:
        return ""
    knob = LIMITS[identity.platform].knob if identity.platform in LIMITS else "the platform's grace period"
    told = "" if settings.termination_grace_period is None else " and CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD with it"
    if settings.termination_grace_period is None and identity.platform is not Platform.APP_SERVICE:
        told = ", and say so with CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD"
    return (
        f"stopping can take {needed:g} s (drain_delay {delay:g} + max_request_duration {settings.max_request_duration:g} + "
        f"shutdown_timeout {settings.shutdown_timeout:g} + {MARGIN:g}), but the process is killed {grace:g} s after "
        f"SIGTERM: raise {knob} to {needed:g}{told}, or lower one of the others"
    )


def is_reloader() -> bool:
    """Whether a development server restarts this process when a file changes; nobody wants to wait for that."""
    if "--reload" in sys.argv or (os.path.basename(sys.argv[0] if sys.argv else "") == "fastapi" and "dev" in sys.argv):
        return True
    if any(os.environ.get(f"{server}_RELOAD", "").lower() in ("1", "true", "yes") for server in ("UVICORN", "GRANIAN")):
        return True
    # uvicorn.run(..., reload=True) leaves no trace but the configuration that its child was started with.
    given: Any = getattr(multiprocessing.current_process(), "_kwargs", None) or {}
    return bool(getattr(given.get("config"), "should_reload", False))
