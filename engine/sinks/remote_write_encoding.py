"""Prometheus remote_write 1.0 encoding: hand-written protobuf, snappy block format.

WriteRequest { repeated TimeSeries timeseries = 1 }
TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2 }
Label        { string name = 1; string value = 2 }
Sample       { double value = 1; int64 timestamp = 2 }

https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

import re
import struct
from collections.abc import Iterable

import cramjam

from trimtab.engine.types import SeriesKey

_INVALID_LABEL_CHARACTER = re.compile(r"[^a-zA-Z0-9_]")
_double = struct.Struct("<d").pack


def encode_varint(number: int) -> bytes:
    """Encode an integer as a protobuf varint; negative ones as 64-bit two's complement.

    >>> encode_varint(300).hex()
    'ac02'
    """
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_field(field: int, content: bytes) -> bytes:
    """Encode a length-delimited protobuf field.

    >>> encode_field(1, b"ab").hex()
    '0a026162'
    """
    return bytes((field << 3 | 2,)) + encode_varint(len(content)) + content


def encode_labels(labels: Iterable[tuple[str, str]]) -> bytes:
    """Encode the labels of a TimeSeries, sorted by name as the specification requires, without empty ones."""
    return b"".join(
        encode_field(1, encode_field(1, name.encode()) + encode_field(2, value.encode("utf-8", "replace")))
        for name, value in sorted(labels)
        if value
    )


def output_labels(key: SeriesKey, name: str) -> list[tuple[str, str]]:
    """Return the labels of output series `name` for the input `key`; label `for` is the input's metric name.

    >>> output_labels(SeriesKey.of("prometheus", "up", {"job": "x"}), "anomaly_score")
    [('__name__', 'anomaly_score'), ('for', 'up'), ('job', 'x')]
    >>> output_labels(SeriesKey.of("prometheus", "latency", {"for": "latency"}), "y")
    [('__name__', 'y'), ('for', 'latency')]
    """
    labels = {"__name__": name, "for": key.metric}
    for label, value in key.labels:
        if labels.get(label) == value:
            continue
        valid = _INVALID_LABEL_CHARACTER.sub("_", label)
        valid = f"_{valid}" if valid[:1].isdigit() else valid
        while valid in labels:
            valid = f"exported_{valid.lstrip('_')}"
        labels[valid] = value
    return sorted(labels.items())


def encode_series(labels: bytes, value: float, time_tail: bytes) -> bytes:
    """Encode one TimeSeries with one sample; `time_tail` is its encoded timestamp."""
    sample = b"\x09" + _double(value) + time_tail
    return encode_field(1, labels + encode_field(2, sample))


def encode_timestamp(time_ns: int) -> bytes:
    """Encode the timestamp of a Sample, in milliseconds."""
    return b"\x10" + encode_varint(time_ns // 1_000_000)


def compress(request: bytes) -> bytes:
    """Compress a WriteRequest in snappy block format."""
    return bytes(cramjam.snappy.compress_raw(request))
