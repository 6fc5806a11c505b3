"""Our families in OTLP's wire form (opentelemetry-proto 1.x, metrics.proto), cumulative.

Equal to the official encoder after decoding; tests/metrics/test_otlp_encoder.py holds them side by side.
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
_LARGEST = 2 * 1024 * 1024
_DATA_FIELD = {Instrument.HISTOGRAM: 9, Instrument.GAUGE: 5}


def metrics(
    snapshots: Iterable[Snapshot], start_ns: int, now_ns: int, pause: Callable[[], None] = no_pause
) -> list[bytes]:
    """The `metrics` field of a ScopeMetrics message, once for each family. Times are nanoseconds since 1970."""
    times = protobuf.fixed64(2, start_ns) + protobuf.fixed64(3, now_ns)
    return [_metric(snapshot, times, pause) for snapshot in snapshots if snapshot.series]


def parts(families: Iterable[bytes]) -> Iterator[bytes]:
    """Families put together as long as a request stays below what collectors take."""
    gathered: list[bytes] = []
    size = 0
    for family in families:
        if gathered and size + len(family) > _LARGEST:
            yield b"".join(gathered)
            gathered, size = [], 0
        gathered.append(family)
        size += len(family)
    if gathered:
        yield b"".join(gathered)


def _metric(snapshot: Snapshot, times: bytes, pause: Callable[[], None]) -> bytes:
    metric = snapshot.metric
    points = []
    for values, content in snapshot.series.items():
        pause()
        if metric.instrument is Instrument.HISTOGRAM:
            points.append(_histogram(metric, values, content, times))
        elif metric.instrument is Instrument.STATE:
            points += [
                _number(metric, (*values, state), float(position == content), times)
                for position, state in enumerate(metric.states)
            ]
        else:
            points.append(_number(metric, values, content, times))
    data = protobuf.join(1, points)
    if metric.instrument is not Instrument.GAUGE:
        data += _CUMULATIVE
    if metric.instrument is Instrument.COUNTER:
        data += _MONOTONIC
    head = protobuf.text(1, metric.name) + protobuf.text(2, metric.help) + protobuf.text(3, metric.unit)
    # Names that Prometheus gave are as they were; backends that know them are told so.
    bridged = protobuf.key_value(12, "prometheus.type", snapshot.bridged) if snapshot.bridged else b""
    return protobuf.length_delimited(
        2, head + protobuf.length_delimited(_DATA_FIELD.get(metric.instrument, 7), data) + bridged
    )


def _attributes(field: int, metric: Metric, values: tuple[str, ...]) -> bytes:
    present = zip(metric.labels, values, strict=False)
    return protobuf.attributes(
        field, {name: int(value) if name in INTEGER_LABELS else value for name, value in present if value}
    )


def _number(metric: Metric, values: tuple[str, ...], content: float, times: bytes) -> bytes:
    whole = metric.unit not in ("s", "By") and content.is_integer() and abs(content) < 2**63
    number = b"\x31" + struct.pack("<q", int(content)) if whole else protobuf.double(4, content)
    return _attributes(7, metric, values) + times + number


def _histogram(metric: Metric, values: tuple[str, ...], content: HistogramData, times: bytes) -> bytes:
    counts, bounds = content.counts, metric.buckets
    return b"".join(
        (
            _attributes(9, metric, values),
            times,
            protobuf.fixed64(4, content.count),
            protobuf.double(5, content.total),
            protobuf.length_delimited(6, struct.pack(f"<{len(counts)}Q", *counts)),
            protobuf.length_delimited(7, struct.pack(f"<{len(bounds)}d", *bounds)),
            protobuf.join(8, [_exemplar(exemplar) for exemplar in content.exemplars if exemplar is not None]),
        )
    )


def _exemplar(exemplar: Exemplar) -> bytes:
    return b"".join(
        (
            protobuf.fixed64(2, exemplar.time),
            protobuf.double(3, exemplar.value),
            protobuf.length_delimited(4, exemplar.span_id.to_bytes(8, "big")),
            protobuf.length_delimited(5, exemplar.trace_id.to_bytes(16, "big")),
        )
    )
