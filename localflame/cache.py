"""Flame's object cache: an Arrow Flight server over the store, for programs that have no shorter way to it.

As object_cache/src/cache.rs of Flame 0.6.0.
"""

from __future__ import annotations

import functools
import re
import time
from typing import TYPE_CHECKING, Any

from flamewire import arrow
from flamewire.object_file import ObjectRow, find_object, read_object, read_sizes
from flamewire.object_ref import ObjectRef
from localflame.objects import (
    CacheRefused,
    Key,
    NoSuchObject,
    delete_objects,
    failure_of,
    object_key,
    patch_key,
    patch_object,
    put_key,
    put_object,
)
from localflame.store import Store, StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from localflame.activity import Activity
    from localflame.metrics import Metrics

with arrow.imports():
    import pyarrow as pa
    from pyarrow import flight

_FORMAT, _VERSION, _ARROW_TABLE = b"flame.cache.format", b"flame.cache.version", b"arrow-table-v1"

_ROWS = pa.schema(
    [
        pa.field("version", pa.uint64(), nullable=False),
        pa.field("kind", pa.utf8(), nullable=False),
        pa.field("data", pa.binary(), nullable=False),
    ]
)


def _text(data: bytes, what: str) -> str:
    """Raises ArrowInvalid as Rust words it."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        length = max(error.end - error.start, 1)
        raise pa.ArrowInvalid(
            f"Invalid {what}: invalid utf-8 sequence of {length} bytes from index {error.start}"
        ) from None


def _version(text: str) -> int:
    """As Rust reads an unsigned 64-bit integer. Raises ArrowInvalid."""
    if not text:
        raise pa.ArrowInvalid("Invalid version: cannot parse integer from empty string")
    if not re.fullmatch(r"\+?[0-9]+", text):
        raise pa.ArrowInvalid("Invalid version: invalid digit found in string")
    if int(text) >= 2**64:
        raise pa.ArrowInvalid("Invalid version: number too large to fit in target type")
    return int(text)


def _handler(operation: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Count the calls of a method as that operation, and say what the disk said."""

    def handle(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Cache, context: Any, *arguments: Any) -> Any:
            began, named = time.perf_counter(), operation
            if operation == "put" and (arguments[0].command or b"").startswith(b"PATCH:"):
                named = "append"
            with self._activity.busy():
                try:
                    return method(self, context, *arguments)
                except Exception as error:
                    self._metrics.cache_failures.count(named, failure_of(error))
                    raise _by_flight(error) from None
                finally:
                    self._metrics.cache.observe(time.perf_counter() - began, named)

        return call

    return handle


def _by_flight(error: Exception) -> Exception:
    if isinstance(error, StoreError):
        return flight.FlightInternalError(str(error))  # type: ignore[no-any-return]
    kinds = ((CacheRefused, pa.ArrowInvalid), (NoSuchObject, pa.ArrowKeyError))
    return next((theirs(str(error)) for ours, theirs in kinds if isinstance(error, ours)), error)


class Cache(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """The server. It serves as soon as it is made."""

    def __init__(self, store: Store, activity: Activity, metrics: Metrics, socket: Path, endpoint: str) -> None:
        """Listens on the Unix socket; references to objects name the `endpoint`. Raises OSError or ArrowException."""
        self._store = store
        self._activity = activity
        self._metrics = metrics
        super().__init__(f"grpc+unix://{socket}")
        self.endpoint = endpoint

    @_handler("put")
    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Store an object, or append to one where the descriptor is the command `PATCH:key`."""
        # Everything is read before anything is refused: a client that still writes would not hear it.
        schema, batches = reader.schema, [chunk.data for chunk in reader]
        path = descriptor.path[0].decode() if descriptor.path else None
        command = (descriptor.command or b"").decode()
        if not batches:
            raise pa.ArrowInvalid("No data received")
        if path is None and command.startswith("PATCH:"):
            key = patch_key(command.removeprefix("PATCH:"))
            operation = functools.partial(patch_object, key=key, row=_opaque(schema, batches))
        elif path is None:
            raise pa.ArrowInvalid("key must be provided in descriptor path or command")
        else:
            key = put_key(path)
            arrow = (schema.metadata or {}).get(_FORMAT) == _ARROW_TABLE
            data = _arrow_stream(schema, batches) if arrow else _opaque(schema, batches)
            operation = functools.partial(put_object, key=key, arrow=arrow, data=data)
        version = self._store.submit(operation).result()
        writer.write(pa.py_buffer(ObjectRef(self.endpoint, key, version).encode()))

    @_handler("get")
    def do_get(self, context: Any, ticket: Any) -> Any:
        """The whole object, or of what the client has a version of only what is new."""
        text, colon, version = _text(ticket.ticket, "ticket").partition(":")
        known = _version(version) if colon else 0
        key = object_key(text)
        if "*" in key.split("/"):
            raise pa.ArrowInvalid("ObjectKey requires object_id for get")
        stored, rows = self._store.read_sync(functools.partial(_read, key=key, known=known))
        if stored.arrow and rows:
            return flight.RecordBatchStream(_arrow_table(rows[0][1], stored.base))
        kinds = ("patch", "base")
        batches = [
            pa.record_batch([[version], [kinds[version == stored.base]], [data]], schema=_ROWS)
            for version, data in rows
        ]
        return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(_ROWS, batches))

    @_handler("info")
    def get_flight_info(self, context: Any, descriptor: Any) -> Any:
        """The place where an object is, or would be: nobody checks whether it exists."""
        if not descriptor.path:
            raise pa.ArrowInvalid("Empty descriptor path")
        key = b"/".join(descriptor.path).decode()
        schema = self._store.read_sync(functools.partial(_arrow_schema, key=key))
        endpoint = flight.FlightEndpoint(key.encode(), [self.endpoint])
        return flight.FlightInfo(schema or pa.schema([]), flight.FlightDescriptor.for_path(key), [endpoint], -1, -1)

    @_handler("list")
    def list_flights(self, context: Any, criteria: bytes) -> Iterator[Any]:
        """All objects."""
        objects = self._store.read_sync(read_sizes)
        return iter(
            [
                flight.FlightInfo(
                    pa.schema([]),
                    flight.FlightDescriptor.for_path(key),
                    [flight.FlightEndpoint(key.encode(), [self.endpoint])],
                    -1,
                    size,
                )
                for key, size in objects
            ]
        )

    @_handler("info")
    def get_schema(self, context: Any, descriptor: Any) -> Any:
        """The schema of rows, whatever the object."""
        return flight.SchemaResult(_ROWS)

    @_handler("delete")
    def do_action(self, context: Any, action: Any) -> list[Any]:
        """DELETE an object, a session's, or an application's (`app/*`)."""
        if action.type != "DELETE":
            raise pa.ArrowInvalid(f"Unknown action type: {action.type}. Only DELETE is supported.")
        key = Key.parse(_text(action.body.to_pybytes(), "action body"))
        self._store.submit(functools.partial(delete_objects, key=key)).result()
        return [flight.Result(pa.py_buffer(b"OK"))]

    @_handler("info")
    def list_actions(self, context: Any) -> list[Any]:
        """DELETE."""
        return [flight.ActionType("DELETE", "Delete objects by key prefix")]


def _read(db: sqlite3.Connection, key: str, known: int) -> tuple[ObjectRow, list[tuple[int, bytes]]]:
    found = read_object(db, key, known)
    if found is None:
        raise NoSuchObject(f"object <{key}> not found")
    return found


def _arrow_schema(db: sqlite3.Connection, key: str) -> Any | None:
    stored = find_object(db, key)
    if stored is None or not stored.arrow:
        return None
    (data,) = db.execute(
        "SELECT data FROM payloads WHERE object = ? AND version = ?", (stored.id, stored.base)
    ).fetchone()
    return _with_version(pa.ipc.open_stream(data).schema, stored.base)


def _opaque(schema: Any, batches: list[Any]) -> bytes:
    """The rows' data, one after the other."""
    if schema.types[:2] != [pa.uint64(), pa.binary()]:
        wrong = "version" if schema.types[:1] != [pa.uint64()] else "data"
        raise flight.FlightInternalError(f"Invalid {wrong} column")
    rows = [value.as_buffer() for batch in batches for value in batch.column(1)]
    if not rows:
        raise pa.ArrowInvalid("Expected at least one row")
    return b"".join(bytes(row) if row is not None else b"" for row in rows)


def _arrow_stream(schema: Any, batches: list[Any]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return bytes(sink.getvalue())


def _arrow_table(data: bytes, version: int) -> Any:
    table = pa.ipc.open_stream(data).read_all()
    return table.replace_schema_metadata(_with_version(table.schema, version).metadata)


def _with_version(schema: Any, version: int) -> Any:
    return schema.with_metadata({**(schema.metadata or {}), _FORMAT: _ARROW_TABLE, _VERSION: str(version).encode()})
