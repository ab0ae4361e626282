"""Text that others wrote, made safe to show: no control characters, and nothing that hides or turns text around.

Promises that what is seen is what is there, in its order: what would command a terminal, turn characters around or
hide some of them is shown as a sign. Everything else, of every script, stays.
"""

from __future__ import annotations

# Of C0 each but tab and newline becomes its picture; those of C1 begin commands too (0x9b is CSI).
_SIGNS = {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)}
_SIGNS |= {0x7F: "␡", **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}}

_UNSEEN = (
    *(0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),  # Bidi_Control: the order
    *range(0x206A, 0x2070),  # deprecated: the shapes of letters and digits
    *(0x2028, 0x2029),  # line ends for some programs and for others not
    *range(0xFFF9, 0xFFFC),  # what stands between them is hidden, or not
    *range(0xE0000, 0xE0080),  # tags: a whole text that nobody sees and a model reads
)
_SIGNS |= {code: f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}" for code in _UNSEEN}

# JSON itself escapes C0 and none of these; of those beyond 0xFFFF it knows the two surrogates.
_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *_UNSEEN) if code < 0x10000}
_ESCAPES |= {code: f"\\udb40\\u{0xDC00 + code - 0xE0000:04x}" for code in _UNSEEN if code >= 0x10000}


def sanitize(text: str) -> str:
    """The text with a sign in place of each character that does not show itself."""
    return text.translate(_SIGNS)


def sanitize_json(text: str) -> str:
    """JSON with the same meaning in which none of these characters stands as itself."""
    return text.translate(_ESCAPES)
