"""Flame's object cache over Arrow Flight.

Promises that a patch has no deadline: a client that gives up inside one leaves the cache of Flame 0.6 unable to start
again.
"""

from __future__ import annotations

from typing import Any

from flameagent.flame.endpoints import CACHE_PORT, Endpoints, address
from flameagent.flame.errors import FlameError, Mismatch, NotFound, Refused, Unreachable, refusal
from flameagent.flame.objects import ARROW_TABLE, Rows, row_of, rows_of
from flamewire import arrow
from flamewire.object_ref import ObjectRef

with arrow.imports():
    import pyarrow as pa
    import pyarrow.flight as flight

_SCHEMA = pa.schema([pa.field("version", pa.uint64()), pa.field("data", pa.binary())])
_READ_TIMEOUT = 30.0
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


class FlightCache:
    """One connection to an object cache; it is `ObjectCache`, which says what each method does.

    Uses the address that it was made with, never the one inside an ObjectRef, which is the cache's own
    idea of itself (another port, another network).
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self.url = endpoints.cache
        self._ca_file, self._ca_source = endpoints.cache_ca_file or endpoints.ca_file, endpoints.ca_source
        target, secure = address(endpoints.cache, CACHE_PORT)
        options: dict[str, Any] = {"generic_options": _OPTIONS}
        if secure:
            from flameagent.flame import tls

            options["tls_root_certs"] = tls.roots(self._ca_file, self._ca_source)
        location = f"{'grpc+tls' if secure else 'grpc+tcp'}://{target}"
        if endpoints.cache_socket:
            location = f"grpc+unix://{endpoints.cache_socket}"
        self._client = flight.FlightClient(location, **options)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def greet(self, timeout: float) -> None:
        """Raises `FlameError`."""
        options = flight.FlightCallOptions(timeout=timeout)
        try:
            self._client.do_get(flight.Ticket(b"-/-/-:0"), options).read_all()
        except Exception as error:
            translated = self._translated(error)
            if not isinstance(translated, NotFound):
                raise translated from error

    def put_as(self, key: str, data: bytes) -> ObjectRef:
        """Raises `Unreachable`, `Refused`."""
        return self._write(flight.FlightDescriptor.for_path(key), data)

    def patch(self, key: str, data: bytes) -> int:
        """Raises `NotFound`, `CacheFull`, `Refused`, `Unreachable`: it may be there."""
        return self._write(flight.FlightDescriptor.for_command(f"PATCH:{key}".encode()), data).version

    def get(self, key: str, since: int) -> Rows:
        """Raises `NotFound`, `Unreachable`."""
        ticket = flight.Ticket(f"{key}:{since}".encode())
        try:
            table = self._client.do_get(ticket, flight.FlightCallOptions(timeout=_READ_TIMEOUT)).read_all()
        except Exception as error:
            raise self._translated(error) from error
        return _rows(table)

    def delete(self, prefix: str) -> None:
        """Raises `Unreachable`."""
        action = flight.Action("DELETE", prefix.encode())
        try:
            list(self._client.do_action(action, flight.FlightCallOptions(timeout=_READ_TIMEOUT)))
        except Exception as error:
            raise self._translated(error) from error

    def _write(self, descriptor: Any, data: bytes) -> ObjectRef:
        batch = pa.record_batch([pa.array([0], pa.uint64()), pa.array([row_of(data)], pa.binary())], schema=_SCHEMA)
        try:
            writer, reader = self._client.do_put(descriptor, _SCHEMA)
            writer.write_batch(batch)
            writer.done_writing()
            reply = reader.read()
            writer.close()  # raises the server's reason when there was no reply
        except Exception as error:
            raise self._translated(error) from error
        if reply is None:
            raise Unreachable(f"The object cache at {self.url} gave no answer to a write.")
        try:
            return ObjectRef.decode(reply.to_pybytes())
        except ValueError as error:  # it may have been written all the same
            raise Unreachable(f"The object cache at {self.url} gave an answer to a write that is none.") from error

    def _translated(self, error: Exception) -> FlameError:
        text = str(error).split(". Detail:")[0].split(" Client context:")[0][:300]
        # pyarrow 26: NOT_FOUND is ArrowKeyError and INVALID_ARGUMENT ArrowInvalid, neither a FlightError.
        if isinstance(error, pa.ArrowKeyError):
            return NotFound(text)
        if isinstance(error, pa.ArrowInvalid):
            return refusal(text)
        if isinstance(error, flight.FlightUnavailableError | flight.FlightTimedOutError | OSError):
            from flameagent.flame import tls

            why = tls.disagreement(self.url, CACHE_PORT, self._ca_file, self._ca_source)
            return Mismatch(why) if why else Unreachable(f"The object cache at {self.url} does not answer.")
        if isinstance(error, flight.FlightError | pa.ArrowException):
            return Unreachable(f"The object cache at {self.url} failed: {text}")
        return FlameError(f"The object cache at {self.url}: {type(error).__name__}: {text}")


def _rows(table: Any) -> Rows:
    if table.num_rows == 0:
        return Rows(None, 0, [], full=False)
    columns = table.to_pydict()
    if "data" not in columns or "version" not in columns:
        raise Refused(ARROW_TABLE)
    kinds = columns.get("kind") or ["base"] * table.num_rows
    return rows_of(
        (version, kind == "base", data)
        for version, kind, data in zip(columns["version"], kinds, columns["data"], strict=True)
    )
