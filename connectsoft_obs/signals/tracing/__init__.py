"""Traces: spans of our own behind OpenTelemetry's interfaces."""

from connectsoft_obs.signals.tracing.delegate import DelegatingProvider as DelegatingProvider
from connectsoft_obs.signals.tracing.encode import shared as shared
from connectsoft_obs.signals.tracing.provider import SAMPLED as SAMPLED
from connectsoft_obs.signals.tracing.provider import Provider as Provider
from connectsoft_obs.signals.tracing.provider import Tracer as Tracer
from connectsoft_obs.signals.tracing.readable import FLAGS as FLAGS
from connectsoft_obs.signals.tracing.readable import NO_SHARED as NO_SHARED
from connectsoft_obs.signals.tracing.readable import Row as Row
from connectsoft_obs.signals.tracing.readable import Shared as Shared
from connectsoft_obs.signals.tracing.readable import digits as digits
from connectsoft_obs.signals.tracing.readable import hexadecimal as hexadecimal
from connectsoft_obs.signals.tracing.span import Span as Span
from connectsoft_obs.signals.tracing.span import Unsampled as Unsampled
from connectsoft_obs.signals.tracing.tracing import Tracing as Tracing
