"""The headers of HTTP/2 as they are sent (RFC 7541): read with all that a client may use, written plainly.

In the place of the hpack package, whose tables take 2 MB of every instance; the tests hold it to that package.
"""

from __future__ import annotations

from collections import deque
from itertools import accumulate

TABLE_SIZE = 4096
"""Bytes of the table that both sides keep of the headers that came, where nothing else was agreed."""
_ENTRY = 32  # bytes that an entry counts beside its texts
_EOS = 256  # the code that fills the last byte, which no text has


class HpackError(ValueError):
    """These bytes are no headers; what comes behind them cannot be read either."""


class Decoder:
    """Reads the header blocks of one connection, in their order.

    `limit` is how many bytes the headers of a block may have, each counted with 32 more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._table: deque[tuple[bytes, bytes]] = deque()
        self._size, self._most = 0, TABLE_SIZE

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """The headers of a block, names and values. Raises `HpackError`."""
        found: list[tuple[bytes, bytes]] = []
        at = size = 0
        try:
            while at < len(block):
                first = block[at]
                if first & 0xE0 == 0x20:  # the table's new size, which stands before all headers
                    most, at = _integer(block, at, 5)
                    if found or most > TABLE_SIZE:
                        raise HpackError("a size of the table that was not agreed")
                    self._most = most
                    self._make_room(0)
                    continue
                if first & 0x80:
                    index, at = _integer(block, at, 7)
                    header = self._entry(index)
                else:
                    kept = first & 0x40
                    index, at = _integer(block, at, 6 if kept else 4)
                    name, at = (self._entry(index)[0], at) if index else _text(block, at)
                    value, at = _text(block, at)
                    header = name, value
                    if kept:
                        self._keep(header)
                size += len(header[0]) + len(header[1]) + _ENTRY
                if size > self._limit:
                    raise HpackError("more headers than agreed")
                found.append(header)
        except IndexError:
            raise HpackError("the headers end too early") from None
        return found

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if not index:
            raise HpackError("no entry has the number 0")
        return _STATIC[index - 1] if index <= len(_STATIC) else self._table[index - len(_STATIC) - 1]

    def _keep(self, header: tuple[bytes, bytes]) -> None:
        size = len(header[0]) + len(header[1]) + _ENTRY
        self._make_room(size)
        if size <= self._most:
            self._table.appendleft(header)
            self._size += size

    def _make_room(self, size: int) -> None:
        while self._table and self._size + size > self._most:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + _ENTRY


def encode(headers: list[tuple[bytes, bytes]]) -> bytes:
    """A block of these headers, of which a reader keeps nothing."""
    return b"".join(b"\0" + _length(name) + name + _length(value) + value for name, value in headers)


def _length(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return bytes([size])
    out, size = bytearray([0x7F]), size - 0x7F
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """The number in the last bits of a byte and, where they are all ones, in those behind it; and where it ends."""
    most = (1 << bits) - 1
    value, at = block[at] & most, at + 1
    if value < most:
        return value, at
    for shift in range(0, 28, 7):
        more, at = block[at], at + 1
        value += (more & 0x7F) << shift
        if more < 0x80:
            return value, at
    raise HpackError("a number that is too large")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    packed = block[at] & 0x80
    length, at = _integer(block, at, 7)
    end = at + length
    if end > len(block):
        raise HpackError("the headers end too early")
    return _unpacked(block[at:end]) if packed else block[at:end], end


def _unpacked(packed: bytes) -> bytes:
    """What is written in Huffman's code of RFC 7541. Raises `HpackError`."""
    out, code, bits = bytearray(), 0, 0
    for byte in packed:
        for shift in range(7, -1, -1):
            code, bits = code << 1 | byte >> shift & 1, bits + 1
            place = code - _FIRST_CODE[bits]
            if 0 <= place < _CODES[bits]:
                symbol = _SYMBOLS[_FIRST_SYMBOL[bits] + place]
                if symbol == _EOS:
                    raise HpackError("a text with an end in it")
                out.append(symbol)
                code = bits = 0
    if bits > 7 or code != (1 << bits) - 1:  # what is left over is the beginning of the end's code
        raise HpackError("a text that ends within a letter")
    return bytes(out)


# The bits of each symbol's code (RFC 7541, appendix B). Codes of a length follow each other in the symbols' order,
# and the first of a length comes behind the last of the length before.
_BITS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b0806060605050506"
    "06060606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e060f05060506050606"
    "060507070606060506070605050607070707070f0b0e0d1c14161414161616171617171717171817181816171817171717151617"
    "1617171816151416161717151716161815161717151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a1819"
    "13151a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
_CODES = [_BITS.count(bits) for bits in range(31)]
_SYMBOLS = sorted(range(len(_BITS)), key=lambda symbol: _BITS[symbol])  # stable: those of a length in their order
_FIRST_SYMBOL = [0, *accumulate(_CODES)][:31]
_FIRST_CODE = list(accumulate(_CODES[:-1], lambda first, codes: (first + codes) << 1, initial=0))

_STATIC = [
    (name.encode(), value.encode())
    for name, _, value in (
        line.partition(" ")
        for line in """
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
""".strip().splitlines()
    )
]
