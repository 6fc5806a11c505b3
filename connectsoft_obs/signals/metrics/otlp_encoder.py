"""Encodes metric families in OTLP (opentelemetry-proto 1.x, metrics.proto) with cumulative temporality.

The result equals that of the official encoder after decoding; tests/metrics/test_otlp_encoder.py compares them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from connectsoft_obs.export import protobuf
from connectsoft_obs.signals.metrics.cooperative import no_pause
from connectsoft_obs.signals.metrics.exemplars import Exemplar
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import INTEGER_LABELS, Instrument, Metric

_CUMULATIVE = b"\x10\x02"
_MONOTONIC = b"\x18\x01"
_MAX_REQUEST_BYTES = 2 * 1024 * 1024
_SUM_FIELD = 7
_DATA_FIELD = {Instrument.HISTOGRAM: 9, Instrument.GAUGE: 5}


def encode_metrics(
    snapshots: Iterable[Snapshot], start_ns: int, now_ns: int, pause: Callable[[], None] = no_pause
) -> list[bytes]:
    """Encode each family as the `metrics` field of a ScopeMetrics message. Times are nanoseconds since 1970."""
    times = protobuf.fixed64(2, start_ns) + protobuf.fixed64(3, now_ns)
    return [_encode_metric(snapshot, times, pause) for snapshot in snapshots if snapshot.series]


def split_requests(families: Iterable[bytes]) -> Iterator[bytes]:
    """Join encoded families to requests of up to 2 MiB; a larger family is a request of its own."""
    parts: list[bytes] = []
    size = 0
    for family in families:
        if parts and size + len(family) > _MAX_REQUEST_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(family)
        size += len(family)
    if parts:
        yield b"".join(parts)


def _encode_metric(snapshot: Snapshot, times: bytes, pause: Callable[[], None]) -> bytes:
    metric = snapshot.metric
    points = []
    for values, content in snapshot.series.items():
        pause()
        if metric.instrument is Instrument.HISTOGRAM:
            points.append(_encode_histogram_point(metric, values, content, times))
        elif metric.instrument is Instrument.STATE:
            points += [
                _encode_number_point(metric, (*values, state), float(index == content), times)
                for index, state in enumerate(metric.states)
            ]
        else:
            points.append(_encode_number_point(metric, values, content, times))
    data = protobuf.join(1, points)
    if metric.instrument is not Instrument.GAUGE:
        data += _CUMULATIVE
    if metric.instrument is Instrument.COUNTER:
        data += _MONOTONIC
    head = protobuf.text(1, metric.name) + protobuf.text(2, metric.help) + protobuf.text(3, metric.unit)
    # Metrics of prometheus_client keep their names; this metadata lets backends recognize them.
    metadata = protobuf.key_value(12, "prometheus.type", snapshot.prometheus_type) if snapshot.prometheus_type else b""
    return protobuf.length_delimited(
        2, head + protobuf.length_delimited(_DATA_FIELD.get(metric.instrument, _SUM_FIELD), data) + metadata
    )


def _encode_attributes(field: int, metric: Metric, values: tuple[str, ...]) -> bytes:
    labels = zip(metric.labels, values, strict=False)
    return protobuf.attributes(
        field, {name: int(value) if name in INTEGER_LABELS else value for name, value in labels if value}
    )


def _encode_number_point(metric: Metric, values: tuple[str, ...], value: float, times: bytes) -> bytes:
    is_integer = metric.unit not in ("s", "By") and value.is_integer() and abs(value) < 2**63
    number = b"\x31" + struct.pack("<q", int(value)) if is_integer else protobuf.double(4, value)
    return _encode_attributes(7, metric, values) + times + number


def _encode_histogram_point(metric: Metric, values: tuple[str, ...], content: HistogramData, times: bytes) -> bytes:
    counts, bounds = content.counts, metric.buckets
    return b"".join(
        (
            _encode_attributes(9, metric, values),
            times,
            protobuf.fixed64(4, content.count),
            protobuf.double(5, content.sum),
            protobuf.length_delimited(6, struct.pack(f"<{len(counts)}Q", *counts)),
            protobuf.length_delimited(7, struct.pack(f"<{len(bounds)}d", *bounds)),
            protobuf.join(8, [_encode_exemplar(exemplar) for exemplar in content.exemplars if exemplar is not None]),
        )
    )


def _encode_exemplar(exemplar: Exemplar) -> bytes:
    return b"".join(
        (
            protobuf.fixed64(2, exemplar.time_unix_nano),
            protobuf.double(3, exemplar.value),
            protobuf.length_delimited(4, exemplar.span_id.to_bytes(8, "big")),
            protobuf.length_delimited(5, exemplar.trace_id.to_bytes(16, "big")),
        )
    )
