"""What became of promises: numbers from Prometheus, as Markdown with plots, and as a gate for deployments."""

from connectsoft_obs.ops.slo.report.markdown import plots as plots
from connectsoft_obs.ops.slo.report.markdown import render_markdown as render_markdown
from connectsoft_obs.ops.slo.report.status import SloStatus as SloStatus
from connectsoft_obs.ops.slo.report.status import fetch_status as fetch_status
