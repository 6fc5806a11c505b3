"""Metrics that others made: with prometheus_client, and with OpenTelemetry's Meter API."""

from connectsoft_obs.signals.metrics.foreign.meters import DelegatingMeterProvider as DelegatingMeterProvider
from connectsoft_obs.signals.metrics.foreign.sdk import Meters as Meters
