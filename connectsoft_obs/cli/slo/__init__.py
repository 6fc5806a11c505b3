"""`connectsoft-obs slo`: lint, explain, generate, test and report SLOs, and gate deployments on error budgets."""

from connectsoft_obs.cli.slo.app import main as main
