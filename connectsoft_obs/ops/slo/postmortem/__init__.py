"""First version of a postmortem: impact and timeline of an incident from Prometheus, and empty sections to complete."""

from connectsoft_obs.ops.slo.postmortem.impact import SloImpact as SloImpact
from connectsoft_obs.ops.slo.postmortem.impact import counted_time as counted_time
from connectsoft_obs.ops.slo.postmortem.impact import fetch_impact as fetch_impact
from connectsoft_obs.ops.slo.postmortem.page import render_postmortem as render_postmortem
from connectsoft_obs.ops.slo.postmortem.timeline import TimelineEvent as TimelineEvent
from connectsoft_obs.ops.slo.postmortem.timeline import fetch_missing_series as fetch_missing_series
from connectsoft_obs.ops.slo.postmortem.timeline import fetch_timeline as fetch_timeline
