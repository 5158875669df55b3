"""RecordIO framing: any cut of the stream gives the same records; garbage is refused at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.errors import WireError
from mesostk.wire.recordio import Decoder, encode_record


def test_header_is_the_byte_length() -> None:
    assert encode_record("é".encode()) == b"2\n\xc3\xa9"
    assert encode_record(b"") == b"0\n"


def test_every_cut_in_two_gives_the_same_records() -> None:
    records = [b"", b"x", b'{"type":"HEARTBEAT"}', b"\n\n", b"12\n"]
    stream = b"".join(map(encode_record, records))
    for cut in range(len(stream) + 1):
        decoder = Decoder()
        assert decoder.feed(stream[:cut]) + decoder.feed(stream[cut:]) == records
        assert decoder.is_between_records


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 7))
def test_every_piece_size_gives_the_same_records(records: list[bytes], size: int) -> None:
    stream = b"".join(map(encode_record, records))
    decoder = Decoder()
    got = [
        record
        for at in range(0, len(stream), size)
        for record in decoder.feed(stream[at : at + size])
    ]
    assert got == records
    assert decoder.is_between_records


def test_a_stream_cut_in_a_record_is_noticed() -> None:
    decoder = Decoder()
    decoder.feed(b"5\nab")
    assert not decoder.is_between_records
    decoder = Decoder()
    decoder.feed(b"5")
    assert not decoder.is_between_records


@pytest.mark.parametrize("garbage", [b"<html>", b"\n", b"-1\n", b"+1\n", b"1.5\n", b" 3\n", b"9x"])
def test_garbage_is_refused_at_once_and_for_good(garbage: bytes) -> None:
    decoder = Decoder()
    with pytest.raises(WireError, match="RecordIO"):
        decoder.feed(garbage)
    with pytest.raises(WireError, match="RecordIO"):
        decoder.feed(b"1\na")


def test_length_above_the_limit_is_refused_before_the_record_comes() -> None:
    assert Decoder(max_record_bytes=10).feed(b"10\n0123456789") == [b"0123456789"]
    with pytest.raises(WireError, match="limit of 10"):
        Decoder(max_record_bytes=10).feed(b"11\n")


def test_endless_digits_are_refused() -> None:
    decoder = Decoder()
    for _ in range(20):
        assert decoder.feed(b"1") == []
    with pytest.raises(WireError, match="digits"):
        decoder.feed(b"1")
