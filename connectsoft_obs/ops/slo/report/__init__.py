"""SLO status from Prometheus: error budgets, incidents and months, as values and as a Markdown page with plots."""

from connectsoft_obs.ops.slo.report.markdown import render_markdown as render_markdown
from connectsoft_obs.ops.slo.report.markdown import render_plots as render_plots
from connectsoft_obs.ops.slo.report.status import SloStatus as SloStatus
from connectsoft_obs.ops.slo.report.status import fetch_status as fetch_status
