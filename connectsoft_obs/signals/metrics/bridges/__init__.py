"""Bridges for metrics that are created with prometheus_client or with the OpenTelemetry Meter API."""

from connectsoft_obs.signals.metrics.bridges.early_measurements import EarlyMeasurements as EarlyMeasurements
from connectsoft_obs.signals.metrics.bridges.otel_api import DelegatingMeterProvider as DelegatingMeterProvider
from connectsoft_obs.signals.metrics.bridges.otel_sdk import OtelMeterBridge as OtelMeterBridge
