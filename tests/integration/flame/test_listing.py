"""All objects of a cache in one call: as the embedded engine tells them, as Flame 0.6.0 does, and as neither does."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from pyarrow import flight

import localflame
from flameagent.flame import Endpoints
from flameagent.flame.cache import ObjectCache
from flameagent.flame.listing import object_sizes
from flameagent.flame.objects import row_of

_SCHEMA, _DESCRIPTOR = pa.schema([]), flight.FlightDescriptor.for_path("app/session/object")
SCRIPT = Path(__file__).parents[3] / "deploy" / "certificates.sh"


def test_an_object_grows_with_each_patch(engine: localflame.Engine, cache: ObjectCache) -> None:
    ways = Endpoints("", engine.cache_endpoint), Endpoints("", "grpc://unused", cache_socket=engine.cache_socket)
    key = cache.put(f"listed/{uuid.uuid4().hex}", b"base").key
    size = len(row_of(b"base"))
    for endpoints in ways:
        assert (object_sizes(endpoints) or {})[key] == size
        cache.patch(key, b"")
        size += len(row_of(b""))
    cache.delete(key.rpartition("/")[0])
    assert key not in (object_sizes(endpoints) or {})


class Tells(flight.FlightServerBase):  # type: ignore[misc]
    """A cache with one object, which has `size` bytes."""

    size = 7

    def list_flights(self, context: Any, criteria: bytes) -> Iterator[Any]:
        endpoint = flight.FlightEndpoint(b"app/session/object", ["grpc://elsewhere:9090"])
        yield flight.FlightInfo(_SCHEMA, _DESCRIPTOR, [endpoint], -1, self.size)
        yield flight.FlightInfo(_SCHEMA, _DESCRIPTOR, [], -1, 1)


def test_over_tls_whom_one_trusts_is_asked(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        subprocess.run(["bash", SCRIPT, tmp_path / name, "127.0.0.1"], check=True, capture_output=True)
    own = tuple((tmp_path / "ours" / f"server.{kind}").read_bytes() for kind in ("crt", "key"))
    with Tells("grpc+tls://127.0.0.1:0", tls_certificates=[own]) as server:
        for authority, told in (("ours", {"app/session/object": 7}), ("theirs", None)):
            ca_file = str(tmp_path / authority / "ca.crt")
            for trusted in ({"ca_file": ca_file}, {"ca_file": "none", "cache_ca_file": ca_file}):
                assert object_sizes(Endpoints("", f"grpcs://127.0.0.1:{server.port}", **trusted)) == told


class Flame(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """ListFlights as Flame 0.6.0 answers it: without descriptors, which pyarrow's client refuses."""

    told = b"".join(
        (
            b"\x1a\x3d",  # endpoint
            b"\x0a\x14\x0a\x12app/session/object",  # its ticket
            b"\x12\x25\x0a\x23grpc://127.0.0.1:9090/" + b"x" * 13,  # its location
            b"\x20" + b"\xff" * 9 + b"\x01",  # -1 records
            b"\x28\xac\x02",  # 300 bytes
        )
    )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        assert handler_call_details.method == "/arrow.flight.protocol.FlightService/ListFlights"
        return grpc.unary_stream_rpc_method_handler(lambda request, context: iter([self.told]))


@pytest.fixture
def flame() -> Iterator[Endpoints]:
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Flame()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield Endpoints("", f"grpc://127.0.0.1:{port}")
    server.stop(None)


def test_what_flame_answers_is_read(flame: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    with flight.FlightClient(flame.cache.replace("grpc:", "grpc+tcp:")) as client, pytest.raises(pa.ArrowException):
        list(client.list_flights())
    assert object_sizes(flame) == {"app/session/object": 300}
    monkeypatch.setattr(Flame, "told", Flame.told.replace(b"app/session", b"app/\xff\xff\xff\xff\xff\xff\xff"))
    assert object_sizes(flame) is None
    monkeypatch.setattr(Flame, "told", b"no message")
    assert object_sizes(flame) is None


def test_a_cache_that_tells_nothing_or_is_away_is_none() -> None:
    with flight.FlightServerBase("grpc://127.0.0.1:0") as server:
        assert object_sizes(Endpoints("", f"grpc://127.0.0.1:{server.port}")) is None
    assert object_sizes(Endpoints("", "grpc://127.0.0.1:1")) is None
