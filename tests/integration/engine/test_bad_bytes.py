"""Bytes that make no sense, at each of the engine's doors: refused with a status and a sentence, and nothing else."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import flight

from flamewire.stubs import frontend as messages
from localflame.control import ask
from localflame.home import EngineError, Home
from tests.integration.engine.client import ROWS

if TYPE_CHECKING:
    from tests.integration.engine.client import Client

many = settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))

parts = st.sampled_from(["app", "s", "o", "", "*", "..", "a\\b", "ä", "\x00", "PATCH:", ":", "/", "9" * 5000, "-1"])
near = st.lists(parts, max_size=6).map("".join) | st.lists(parts, max_size=4).map("/".join)
data = st.binary(max_size=60) | near.map(str.encode)


def refused(call: Callable[[], Any]) -> None:
    """The call answers, or fails with a sentence that is no traceback."""
    try:
        call()
    except (pa.ArrowException, KeyError) as error:
        said = str(error)
    except grpc.RpcError as error:
        assert error.code() is not grpc.StatusCode.UNAVAILABLE
        said = error.details() or error.code().name  # as Flame says it: of a session without a name, its name
    else:
        return
    assert said
    assert "Traceback" not in said


@pytest.fixture
def untouched(client: Client) -> Any:
    """The engine goes on as it was, and so does what it holds."""
    key = "bad-bytes/session/object"
    client.put(key, b"base")
    client.patch(key, b"patch")
    before = client.get(key), client.control.status()["pid"]
    yield key
    assert (client.get(key), client.control.status()["pid"]) == before
    client.delete(key)


@many
@given(ticket=data)
def test_a_ticket_harms_nothing(client: Client, untouched: str, ticket: bytes) -> None:
    refused(lambda: client.flight.do_get(flight.Ticket(ticket)).read_all())


@many
@given(path=st.lists(near, min_size=1, max_size=3), command=data, rows=st.lists(data, max_size=2))
def test_a_descriptor_harms_nothing(
    client: Client, untouched: str, path: list[str], command: bytes, rows: list[bytes]
) -> None:
    for descriptor in (
        flight.FlightDescriptor.for_path(*path),
        flight.FlightDescriptor.for_command(command),
        flight.FlightDescriptor.for_command(b"PATCH:" + command),
    ):
        refused(lambda descriptor=descriptor: client.send(descriptor, *rows))  # type: ignore[misc]
        refused(lambda descriptor=descriptor: client.flight.get_flight_info(descriptor))  # type: ignore[misc]


@pytest.mark.parametrize("schema", [pa.schema([]), pa.schema([pa.field("data", pa.utf8())]), ROWS.remove(0)])
def test_rows_of_another_schema_are_refused(client: Client, untouched: str, schema: pa.Schema) -> None:
    def put() -> None:
        writer, _ = client.flight.do_put(flight.FlightDescriptor.for_command(f"PATCH:{untouched}".encode()), schema)
        writer.write_batch(pa.record_batch([pa.array(["x"]).cast(field.type) for field in schema], schema=schema))
        writer.close()

    with pytest.raises(pa.ArrowException):
        put()


@many
@given(kind=st.sampled_from(["DELETE", "delete", "", "PUT"]), body=data)
def test_an_action_harms_nothing(client: Client, untouched: str, kind: str, body: bytes) -> None:
    refused(lambda: list(client.flight.do_action(flight.Action(kind, body))))


@many
@given(
    method=st.sampled_from(list(messages.DESCRIPTOR.services_by_name["Frontend"].methods)),
    request=st.binary(max_size=80) | near.map(lambda text: messages.GetTaskRequest(task_id=text).SerializeToString()),
)
def test_a_request_of_the_frontend_harms_nothing(client: Client, untouched: str, method: Any, request: bytes) -> None:
    path = f"/flame.v1.Frontend/{method.name}"
    if method.server_streaming:
        refused(lambda: list(client.channel.unary_stream(path)(request, timeout=30)))
    else:
        refused(lambda: client.channel.unary_unary(path)(request, timeout=30))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
orders = st.fixed_dictionaries(
    {"do": st.sampled_from(["settings", "application", "x"])},
    optional=dict.fromkeys(
        ("session_id", "environment", "clear", "name", "folder", "environments", "command"), json_values
    ),
)


@many
@given(line=st.binary(max_size=60) | (json_values | orders).map(json.dumps).map(str.encode))
def test_a_line_on_the_control_socket_is_answered(client: Client, untouched: str, line: bytes) -> None:
    path = Home(client.home).control_socket()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, connection.makefile("rb") as answers:
        connection.settimeout(30)
        connection.connect(str(path))
        connection.sendall(line.replace(b"\n", b" ") + b"\n")
        answer = json.loads(answers.readline())
    assert answer == {"ok": True} or answer["error"]


def test_settings_that_no_process_could_be_started_with_are_refused(client: Client, echo: str) -> None:
    session = client.session(echo)
    assert client.run(session)["text"] is None
    for environment in (5, ["A"], {"A": 5}, {"A": None}):
        with pytest.raises(EngineError, match="Settings are texts"):
            ask(Home(client.home), {"do": "settings", "session_id": session, "environment": environment, "clear": []})
    assert client.run(session)["text"] is None
