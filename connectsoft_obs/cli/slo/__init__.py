"""`connectsoft-obs slo ...`: promises checked, explained, generated, tested, reported and used as a gate."""

from connectsoft_obs.cli.slo.app import main as main
