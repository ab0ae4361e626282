"""The reader of headers, held to the hpack package."""

from __future__ import annotations

import hpack as package
import pytest
from hpack.table import HeaderTable
from hypothesis import given, settings
from hypothesis import strategies as st

from flameagent.service.process.hpack import Decoder, HpackError, encode

_LIMIT = 2**16

names = st.sampled_from([b":path", b":method", b"te", b"content-type", b"x-own"]) | st.binary(min_size=1, max_size=40)
values = st.sampled_from([b"POST", b"/", b"trailers", b"application/grpc"]) | st.binary(max_size=60)
headers = st.tuples(names, values, st.booleans())
blocks = st.lists(st.tuples(st.lists(headers, max_size=12), st.booleans(), st.sampled_from([None, 0, 60, 300, 4096])))


def packages() -> package.Decoder:
    decoder = package.Decoder(_LIMIT)
    decoder.max_allowed_table_size = 4096
    return decoder


@settings(max_examples=200, derandomize=True, deadline=None)
@given(blocks)
def test_what_the_package_writes_is_read(
    blocks: list[tuple[list[tuple[bytes, bytes, bool]], bool, int | None]],
) -> None:
    """With its table, of any size, with and without Huffman's code, some headers never to be kept."""
    encoder, decoder = package.Encoder(), Decoder(_LIMIT)
    for fields, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        assert decoder.decode(encoder.encode(fields, huffman=huffman)) == [(name, value) for name, value, _ in fields]


@settings(max_examples=400, derandomize=True, deadline=None)
@given(
    blocks=st.lists(st.binary(max_size=40), max_size=4), fields=st.lists(headers, max_size=3), at=st.integers(0, 60)
)
def test_any_bytes_are_read_as_by_the_package_or_not_at_all(
    blocks: list[bytes], fields: list[tuple[bytes, bytes, bool]], at: int
) -> None:
    written = package.Encoder().encode(fields)
    for block in [written, written[:at], written[:at] + b"\xff" + written[at + 1 :], *blocks]:
        ours, theirs = Decoder(_LIMIT), packages()
        for each in (written, block, written):
            try:
                expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(each, raw=True)]
            except package.HPACKError:
                with pytest.raises(HpackError):
                    ours.decode(each)
                break
            assert ours.decode(each) == expected


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.tuples(names, values | st.binary(min_size=120, max_size=70_000)), max_size=4))
def test_the_package_reads_what_is_written(fields: list[tuple[bytes, bytes]]) -> None:
    decoder = package.Decoder(2**22)
    assert [(bytes(name), bytes(value)) for name, value in decoder.decode(encode(fields), raw=True)] == fields
    assert not decoder.header_table.dynamic_entries


def test_each_entry_and_each_letter_is_known() -> None:
    decoder = Decoder(_LIMIT)
    assert [decoder.decode(bytes([0x80 | number]))[0] for number in range(1, 62)] == list(HeaderTable.STATIC_TABLE)
    letters = bytes(range(256))
    assert Decoder(_LIMIT).decode(package.Encoder().encode([(b"a", letters)], huffman=True)) == [(b"a", letters)]


_BROKEN = {
    "entry 0": b"\x80",
    "no such entry": b"\xbe",
    "a late size": b"\x82\x20",
    "a large size": b"\x3f\xe2\x1f",
    "a large number": b"\xff\xff\xff\xff\xff\xff",
    "a cut text": b"\0\x05a",
    "a cut letter": b"\0\x81\x1e\0",
    "an end in a text": b"\0\x84\xff\xff\xff\xff\0",
    "much": b"\0\x01a" + b"\x7f\x80\x80\x04" + b"v" * 2**16,
}


@pytest.mark.parametrize("broken", _BROKEN)
def test_what_is_no_header_is_refused(broken: str) -> None:
    with pytest.raises(HpackError):
        Decoder(_LIMIT).decode(_BROKEN[broken])
