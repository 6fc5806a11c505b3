"""Grafana dashboards as JSON models for import."""

from connectsoft_obs.ops.slo.targets.grafana.platform import platform_dashboard as platform_dashboard
from connectsoft_obs.ops.slo.targets.grafana.red import red_dashboard as red_dashboard
from connectsoft_obs.ops.slo.targets.grafana.slos import slo_dashboard as slo_dashboard
from connectsoft_obs.ops.slo.targets.grafana.workers import worker_dashboard as worker_dashboard
