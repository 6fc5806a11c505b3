"""The one object of a process, and where it is found."""

from connectsoft_obs.telemetry.condition import draining as draining
from connectsoft_obs.telemetry.condition import mark_broken as mark_broken
from connectsoft_obs.telemetry.condition import mark_ready as mark_ready
from connectsoft_obs.telemetry.condition import mark_unready as mark_unready
from connectsoft_obs.telemetry.condition import vital_task as vital_task
from connectsoft_obs.telemetry.measure import counter as counter
from connectsoft_obs.telemetry.measure import gauge as gauge
from connectsoft_obs.telemetry.measure import histogram as histogram
from connectsoft_obs.telemetry.process import Slot as Slot
from connectsoft_obs.telemetry.process import configure as configure
from connectsoft_obs.telemetry.process import current as current
from connectsoft_obs.telemetry.process import get_logger as get_logger
from connectsoft_obs.telemetry.process import join as join
from connectsoft_obs.telemetry.process import on_made as on_made
from connectsoft_obs.telemetry.process import pop as pop
from connectsoft_obs.telemetry.process import push as push
from connectsoft_obs.telemetry.process import resolve as resolve
from connectsoft_obs.telemetry.process import slot as slot
from connectsoft_obs.telemetry.process import stream as stream
from connectsoft_obs.telemetry.telemetry import Telemetry as Telemetry
