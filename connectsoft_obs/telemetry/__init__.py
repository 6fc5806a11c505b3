"""The Telemetry object of a process, and the public functions that use it."""

from connectsoft_obs.telemetry import thread_context as thread_context
from connectsoft_obs.telemetry.global_state import configure as configure
from connectsoft_obs.telemetry.global_state import current as current
from connectsoft_obs.telemetry.global_state import current_log_pipeline as current_log_pipeline
from connectsoft_obs.telemetry.global_state import get_logger as get_logger
from connectsoft_obs.telemetry.global_state import install_log_hooks as install_log_hooks
from connectsoft_obs.telemetry.global_state import on_configured as on_configured
from connectsoft_obs.telemetry.global_state import pop_capture as pop_capture
from connectsoft_obs.telemetry.global_state import push_capture as push_capture
from connectsoft_obs.telemetry.global_state import resolve as resolve
from connectsoft_obs.telemetry.global_state import telemetry_holder as telemetry_holder
from connectsoft_obs.telemetry.health_api import draining as draining
from connectsoft_obs.telemetry.health_api import fail_liveness as fail_liveness
from connectsoft_obs.telemetry.health_api import liveness_task as liveness_task
from connectsoft_obs.telemetry.health_api import mark_ready as mark_ready
from connectsoft_obs.telemetry.health_api import mark_unready as mark_unready
from connectsoft_obs.telemetry.holder import TelemetryHolder as TelemetryHolder
from connectsoft_obs.telemetry.metrics_api import counter as counter
from connectsoft_obs.telemetry.metrics_api import gauge as gauge
from connectsoft_obs.telemetry.metrics_api import histogram as histogram
from connectsoft_obs.telemetry.telemetry import Telemetry as Telemetry
