"""Dashboards of Grafana, as JSON to import."""

from connectsoft_obs.slo.targets.grafana.platform import platform as platform
from connectsoft_obs.slo.targets.grafana.red import red as red
from connectsoft_obs.slo.targets.grafana.slos import slos as slos
from connectsoft_obs.slo.targets.grafana.workers import workers as workers
