"""A reference to an object in Flame's cache, as a session's CommonData holds it."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectRef:
    """Flame's reference to an object: `key` is `<application>/<session>/<object>`."""

    endpoint: str
    key: str
    version: int

    def encode(self) -> bytes:
        """As BSON: two strings and a 64-bit integer, for which the bson package need not be loaded."""
        body = b"".join(
            b"\x02" + name + b"\0" + struct.pack("<i", len(text) + 1) + text + b"\0"
            for name, text in ((b"endpoint", self.endpoint.encode()), (b"key", self.key.encode()))
        )
        body += b"\x12version\0" + struct.pack("<q", self.version)
        return struct.pack("<i", len(body) + 5) + body + b"\0"

    @classmethod
    def decode(cls, data: bytes) -> ObjectRef:
        """Read BSON, whatever wrote it. Raises `ValueError` when it is no ObjectRef."""
        import bson

        try:
            fields = bson.decode(data)
            return cls(str(fields["endpoint"]), str(fields["key"]), int(fields["version"]))
        except Exception as error:
            raise ValueError("The session's common data is not a reference to an object.") from error
