"""Computes how long the process serves after SIGTERM, and whether the grace period of the platform is long enough."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

from connectsoft_obs.identity import Platform, ResourceIdentity
from connectsoft_obs.process.uvicorn_internals import is_reload_worker
from connectsoft_obs.settings import Settings

MARGIN: Final = 2.0
"""Seconds for the server itself: the loops of uvicorn and gunicorn poll for signals every 0.1 to 0.5 s."""


class PlatformLimits(NamedTuple):
    """Shutdown times of a platform.

    Args:
        drain_delay: seconds until its load balancers have noticed a 503. On Kubernetes, endpoint propagation (5 s) plus
            one probe period; App Service takes an instance out of rotation before it sends SIGTERM.
        grace_period: default seconds from SIGTERM to SIGKILL.
        setting: where the grace period is configured.
    """

    drain_delay: float
    grace_period: float
    setting: str


LIMITS: Final = {
    Platform.AKS: PlatformLimits(10.0, 30.0, "terminationGracePeriodSeconds of the pod"),
    Platform.CONTAINER_APPS: PlatformLimits(10.0, 30.0, "template.terminationGracePeriodSeconds of the container app"),
    Platform.APP_SERVICE: PlatformLimits(2.0, 5.0, "the app setting WEBSITES_CONTAINER_STOP_TIME_LIMIT"),
    Platform.VM: PlatformLimits(0.0, 90.0, "TimeoutStopSec= of the systemd unit"),
}


def drain_delay(settings: Settings, identity: ResourceIdentity) -> float:
    """Seconds to serve after SIGTERM: the setting, or the platform's value; 0 in development and under a reloader."""
    if settings.drain_delay is not None:
        return settings.drain_delay
    if identity.environment == "development" or is_reloader() or identity.platform not in LIMITS:
        return 0.0
    return LIMITS[identity.platform].drain_delay


def grace_period(settings: Settings, identity: ResourceIdentity, environ: Mapping[str, str]) -> float | None:
    """Seconds from SIGTERM to SIGKILL: the setting, or the platform's configured or default value; None if unknown."""
    if settings.termination_grace_period is not None:
        return settings.termination_grace_period
    if identity.platform is Platform.APP_SERVICE:
        stop_time_limit = environ.get("WEBSITES_CONTAINER_STOP_TIME_LIMIT", "")
        if stop_time_limit.isdigit():
            return float(stop_time_limit)
    limits = LIMITS.get(identity.platform)
    return None if limits is None else limits.grace_period


def exceeds_grace_period(settings: Settings, identity: ResourceIdentity, environ: Mapping[str, str]) -> str:
    """Why the process may be killed while it stops, and what to change; "" if the grace period is sufficient or unknown."""
    grace = grace_period(settings, identity, environ)
    if grace is None:
        return ""
    delay = drain_delay(settings, identity)
    needed = delay + settings.max_request_duration + settings.shutdown_timeout + MARGIN
    if needed <= grace:
        return ""
    setting = LIMITS[identity.platform].setting if identity.platform in LIMITS else "the platform's grace period"
    # On App Service the environment contains the grace period.
    is_detected = settings.termination_grace_period is None and identity.platform is Platform.APP_SERVICE
    also = "" if is_detected else " and set CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD to the same value"
    return (
        f"stopping can take {needed:g} s (drain_delay {delay:g} + max_request_duration {settings.max_request_duration:g} + "
        f"shutdown_timeout {settings.shutdown_timeout:g} + {MARGIN:g}), but the process is killed {grace:g} s after "
        f"SIGTERM: raise {setting} to {needed:g}{also}, or reduce one of these durations"
    )


def is_reloader() -> bool:
    """Whether a development server restarts this process on file changes; a drain delay would only slow that down."""
    if "--reload" in sys.argv or (os.path.basename(sys.argv[0] if sys.argv else "") == "fastapi" and "dev" in sys.argv):
        return True
    if any(os.environ.get(f"{server}_RELOAD", "").lower() in ("1", "true", "yes") for server in ("UVICORN", "GRANIAN")):
        return True
    return is_reload_worker()
