"""What became of promises: numbers from Prometheus, as Markdown with plots, and as a gate for deployments."""

from connectsoft_obs.slo.report.markdown import markdown as markdown
from connectsoft_obs.slo.report.markdown import plots as plots
from connectsoft_obs.slo.report.standing import Standing as Standing
from connectsoft_obs.slo.report.standing import standing as standing
