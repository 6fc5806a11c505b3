"""The tracing of one Telemetry: its provider, its way out, and how adapters open spans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits

from connectsoft_obs import __version__
from connectsoft_obs.export import envelope
from connectsoft_obs.ledger import Ledger, failed
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.tracing import encode
from connectsoft_obs.signals.tracing.provider import SAMPLED, Provider, Tracer
from connectsoft_obs.signals.tracing.sampling import keeps_all, sampler, shortcut
from connectsoft_obs.signals.tracing.span import Span
from connectsoft_obs.vocabulary import SCHEMA_URL, SCOPE, Signal

Item = tuple[tuple[str, str, str | None], bytes]
"""An encoded span and the instrumentation scope it belongs to."""

_SCOPE, _ENCODED = itemgetter(0), itemgetter(1)


class Tracing:
    """Starts and hands on spans. Thread-safe.

    Args:
        settings: sampler and limits.
        attributes: gives the resource's attributes in the calling process.
        ledger: told what fails.
    """

    def __init__(self, settings: Settings, attributes: Callable[[], Mapping[str, Any]], ledger: Ledger) -> None:
        self._attributes = attributes
        self._ledger = ledger
        self._known: tuple[Mapping[str, Any] | None, Resource] = (None, Resource.get_empty())
        own = settings.sampler
        self.provider: Provider = Provider(
            self._resource,
            own or sampler(settings),
            None if own is not None else shortcut(settings),
            SpanLimits(),
            own is None and keeps_all(settings),
        )
        self.tracer: Tracer = self.provider.get_tracer(SCOPE, __version__, SCHEMA_URL)

    def export_to(self, put: Callable[[Item, int], None]) -> None:
        """Encode each finished span and hand it to `put`, with the number of its bytes."""
        encode_span, before, ordinary = encode.span, envelope.BEFORE, envelope.ORDINARY

        def export(span: Span) -> None:
            if not span.flags & SAMPLED:
                return
            try:
                encoded = encode_span(span)
                size = len(encoded)
                item = before[size] + encoded if size < ordinary else envelope.item(encoded)
            except Exception as error:  # noqa: BLE001  whoever ends a span must not notice
                self._ledger.error("tracing.encode", error)
                self._ledger.dropped(Signal.TRACES, "internal_error")
                return
            try:
                put((span.tracer.scope, item), len(item))
            except Exception as failure:  # noqa: BLE001  ours; who ends a span must not fail for it
                failed("tracing.export", failure)

        self.provider.export_to(export)

    def hand_to(self, put: Callable[[Span], None]) -> None:
        """Hand each finished span to `put` as it is, for exporters of the SDK's kind."""

        def export(span: Span) -> None:
            if span.flags & SAMPLED:
                try:
                    put(span)
                except Exception as failure:  # noqa: BLE001  ours; who ends a span must not fail for it
                    failed("tracing.export", failure)

        self.provider.export_to(export)

    def readable(self, spans: Sequence[Span]) -> list[ReadableSpan]:
        """Frozen copies, as the SDK hands them to exporters."""
        return [span.readable() for span in spans]

    def pack(self, items: Sequence[Item]) -> bytes:
        """One ExportTraceServiceRequest."""
        scopes: dict[tuple[str, str, str | None], list[bytes]] = {}
        for scope, some in groupby(items, _SCOPE):
            scopes.setdefault(scope, []).extend(map(_ENCODED, some))
        parts = [envelope.scope(*scope, b"".join(spans)) for scope, spans in scopes.items()]
        return envelope.request(self._attributes(), SCHEMA_URL, b"".join(parts))

    def _resource(self) -> Resource:
        attributes = self._attributes()
        known, resource = self._known
        if attributes is not known:
            resource = Resource(dict(attributes), SCHEMA_URL)
            self._known = (attributes, resource)
        return resource
