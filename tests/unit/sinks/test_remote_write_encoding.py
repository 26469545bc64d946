import pytest

from trimtab.engine.sinks.remote_write_encoding import (
    encode_field,
    encode_labels,
    encode_series,
    encode_timestamp,
    encode_varint,
    output_labels,
)
from trimtab.engine.types import SeriesKey


@pytest.mark.parametrize(
    ("number", "hexed"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (2**63 - 1, "ffffffffffffffff7f"),
        (-1, "ffffffffffffffffff01"),
    ],
)
def test_varints_are_those_of_protobuf(number, hexed):
    """Matches the examples of the protobuf documentation; negative numbers have ten bytes."""
    assert encode_varint(number).hex() == hexed


def test_a_series_is_encoded_as_specified():
    """One series, byte by byte."""
    labels = encode_labels([("a", "b")])
    assert labels.hex() == "0a06" + "0a0161" + "120162"
    series = encode_series(labels, 1.0, encode_timestamp(2_000_000))
    assert series == encode_field(1, labels + bytes.fromhex("120b" + "09000000000000f03f" + "1002"))


@pytest.mark.parametrize(
    ("input_labels", "labels"),
    [
        ({}, {"for": "m"}),
        ({"z": "1", "B": "2"}, {"B": "2", "for": "m", "z": "1"}),  # sorted by name
        ({"for": "x"}, {"exported_for": "x", "for": "m"}),  # renamed as in Prometheus
        ({"__name__": "x"}, {"exported_name__": "x", "for": "m"}),
        ({"a.b-c": "x", "1": "y"}, {"_1": "y", "a_b_c": "x", "for": "m"}),  # Prometheus would refuse these
    ],
)
def test_output_labels(input_labels, labels):
    """Output labels are the input's labels plus `for`, with valid names in sorted order."""
    expected = sorted({"__name__": "yhat", **labels}.items())
    assert output_labels(SeriesKey.of("prometheus", "m", input_labels), "yhat") == expected
