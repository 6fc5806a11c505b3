"""Metrics that others made: with prometheus_client, and with OpenTelemetry's Meter API."""

from connectsoft_obs.signals.metrics.bridges.otel_api import DelegatingMeterProvider as DelegatingMeterProvider
from connectsoft_obs.signals.metrics.bridges.otel_sdk import OtelMeterBridge as OtelMeterBridge
