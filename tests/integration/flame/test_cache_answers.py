"""An object cache that answers with something else than Flame does: unclear, in a sentence, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import flight

from flameagent.flame import Endpoints, Unclear, Unreachable
from flameagent.flame.cache import ObjectCache


class Junk(flight.FlightServerBase):  # type: ignore[misc]
    """Takes every write, and answers with bytes that are no reference."""

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        reader.read_all()
        writer.write(pa.py_buffer(b"junk"))


@pytest.fixture
def cache() -> Iterator[ObjectCache]:
    with Junk("grpc://127.0.0.1:0") as server:
        cache = ObjectCache(Endpoints("", f"grpc://127.0.0.1:{server.port}"))
        yield cache
        cache.close()


def test_a_write_whose_answer_makes_no_sense_may_have_happened(cache: ObjectCache) -> None:
    with pytest.raises(Unreachable, match="gave an answer to a write that is none"):
        cache.put("app/session", b"base")
    with pytest.raises(Unclear):
        cache.patch("app/session/object", b"patch")
