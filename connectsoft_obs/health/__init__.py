"""Health checks, the state of each probe, and graceful shutdown."""

from connectsoft_obs.health.async_event import AsyncEvent as AsyncEvent
from connectsoft_obs.health.check_lifecycle import validate_disabled_checks as validate_disabled_checks
from connectsoft_obs.health.checks import Check as Check
from connectsoft_obs.health.checks import Probe as Probe
from connectsoft_obs.health.checks import Scope as Scope
from connectsoft_obs.health.checks import StartupTask as StartupTask
from connectsoft_obs.health.decorators import liveness_check as liveness_check
from connectsoft_obs.health.decorators import on_health_change as on_health_change
from connectsoft_obs.health.decorators import readiness_check as readiness_check
from connectsoft_obs.health.decorators import startup_task as startup_task
from connectsoft_obs.health.health import Health as Health
from connectsoft_obs.health.registry import CheckRegistry as CheckRegistry
from connectsoft_obs.health.registry import current_registry as current_registry
from connectsoft_obs.health.registry import nested_registry as nested_registry
from connectsoft_obs.health.report import Entry as Entry
from connectsoft_obs.health.report import Phase as Phase
from connectsoft_obs.health.report import Report as Report
from connectsoft_obs.health.report import Transition as Transition
