"""Health: what probers ask, answered from state."""

from connectsoft_obs.health.checks import Check as Check
from connectsoft_obs.health.checks import Probe as Probe
from connectsoft_obs.health.checks import Scope as Scope
from connectsoft_obs.health.checks import Task as Task
from connectsoft_obs.health.declarations import Declared as Declared
from connectsoft_obs.health.declarations import declared as declared
from connectsoft_obs.health.declarations import layer as layer
from connectsoft_obs.health.declare import liveness_check as liveness_check
from connectsoft_obs.health.declare import on_health_change as on_health_change
from connectsoft_obs.health.declare import readiness_check as readiness_check
from connectsoft_obs.health.declare import startup_task as startup_task
from connectsoft_obs.health.flags import Flag as Flag
from connectsoft_obs.health.health import Health as Health
from connectsoft_obs.health.life import refused as refused
from connectsoft_obs.health.report import Entry as Entry
from connectsoft_obs.health.report import Phase as Phase
from connectsoft_obs.health.report import Report as Report
from connectsoft_obs.health.report import Transition as Transition
