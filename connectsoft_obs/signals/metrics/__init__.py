"""Metrics: recording in cells, aggregation over the workers of a service, exposition and export."""

from connectsoft_obs.signals.metrics.bridges import DelegatingMeterProvider as DelegatingMeterProvider
from connectsoft_obs.signals.metrics.bridges import EarlyMeasurements as EarlyMeasurements
from connectsoft_obs.signals.metrics.bridges import OtelMeterBridge as OtelMeterBridge
from connectsoft_obs.signals.metrics.cooperative import CooperativePause as CooperativePause
from connectsoft_obs.signals.metrics.cooperative import PausingList as PausingList
from connectsoft_obs.signals.metrics.exemplars import Exemplar as Exemplar
from connectsoft_obs.signals.metrics.families import Family as Family
from connectsoft_obs.signals.metrics.families import Snapshot as Snapshot
from connectsoft_obs.signals.metrics.gc_metrics import GcMetrics as GcMetrics
from connectsoft_obs.signals.metrics.instruments import USER_METRICS as USER_METRICS
from connectsoft_obs.signals.metrics.registry import MetricRegistry as MetricRegistry
from connectsoft_obs.signals.metrics.series import Histogram as Histogram
from connectsoft_obs.signals.metrics.series import HistogramData as HistogramData
from connectsoft_obs.signals.metrics.series import NumberSeries as NumberSeries
