"""Metrics: counted in cells, shared by the workers of a service, read by scrapers and collectors."""

from connectsoft_obs.signals.metrics.exemplars import Exemplar as Exemplar
from connectsoft_obs.signals.metrics.families import Family as Family
from connectsoft_obs.signals.metrics.families import Snapshot as Snapshot
from connectsoft_obs.signals.metrics.foreign import DelegatingMeterProvider as DelegatingMeterProvider
from connectsoft_obs.signals.metrics.foreign import Meters as Meters
from connectsoft_obs.signals.metrics.garbage import Garbage as Garbage
from connectsoft_obs.signals.metrics.instruments import DEFINED as DEFINED
from connectsoft_obs.signals.metrics.pauses import Pauses as Pauses
from connectsoft_obs.signals.metrics.pauses import Unhurried as Unhurried
from connectsoft_obs.signals.metrics.registry import Metrics as Metrics
from connectsoft_obs.signals.metrics.series import Distribution as Distribution
from connectsoft_obs.signals.metrics.series import Histogram as Histogram
from connectsoft_obs.signals.metrics.series import Number as Number
