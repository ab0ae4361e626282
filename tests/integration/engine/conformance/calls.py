"""Calls that run no instance, in an order in which later ones stand on earlier ones, and what came back.

`python -m tests.integration.engine.conformance.calls` makes them on the cluster at FLAME_ENDPOINT and
FLAME_CACHE_ENDPOINT and writes its answers to seen.json, which is what test_calls.py holds every engine to.
"""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
from google.protobuf.json_format import MessageToDict
from pyarrow import flight

from flamewire.stubs import frontend as messages
from flamewire.stubs import types
from tests.integration.engine.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = tuple[str, Callable[[Client], Any]]

SEEN = Path(__file__).parent / "seen.json"

#: Names of this run; in what is compared they are written APP and SESSION.
APP, SESSION = f"conform-{uuid.uuid4().hex[:8]}", f"conform-{uuid.uuid4().hex[:8]}"


def rpc(method: str, /, stream: bool = False, **fields: Any) -> Call:
    """A call of the frontend; its name is its request, shortened where that is long."""
    request = getattr(messages, f"{method}Request")(**fields)
    told = json.dumps(MessageToDict(request), sort_keys=True)

    def call(client: Client) -> Any:
        answer = getattr(client.frontend, method)(request, timeout=10)
        return list(answer) if stream else answer

    return f"{method} {told if len(told) < 300 else told[:60] + f'… {len(told)}'}", call


def applications() -> list[Call]:
    """Registering, changing, getting."""
    app = types.ApplicationSpec(command="true", labels=["x"], description="d", working_directory="")
    full = types.ApplicationSpec(
        shim=types.Host,
        description="everything",
        labels=["a", "b"],
        image="image:1",
        command="/bin/true",
        arguments=["-a", "${B}"],
        environments=[types.Environment(name="A", value="1"), types.Environment(name="A", value="2")],
        working_directory="/tmp",
        max_instances=7,
        delay_release=0,
        schema=types.ApplicationSchema(input='{"type": "object"}', output="true", common_data="{}"),
        url="file:///nowhere/package.tar.gz",
        installer="Python",
    )
    bad_names = ("", ".x", "-x", "a/b", "a..b", "a b", "é", "a" * 254, "a\\b", "a\n")
    return [
        rpc("RegisterApplication", name=APP),
        *(rpc("RegisterApplication", name=name, application=app) for name in bad_names),
        *(rpc("UpdateApplication", name=name, application=app) for name in bad_names[:3]),
        rpc("RegisterApplication", name=APP, application=types.ApplicationSpec(working_directory="x")),
        *(
            rpc("RegisterApplication", name=APP, application=types.ApplicationSpec(schema={part: text}))
            for part in ("input", "output", "common_data")
            for text in ("{", "", '{"type": "nothing known"}', '{"$schema": "nowhere"}', "3")
        ),
        rpc("RegisterApplication", name=APP, application=app),
        rpc("RegisterApplication", name=APP, application=app),
        rpc("GetApplication", name=APP),
        rpc("GetApplication", name="nobody"),
        rpc("GetApplication", name=""),
        rpc("UpdateApplication", name="nobody", application=app),
        rpc("UpdateApplication", name=APP),
        rpc("UpdateApplication", name=APP, application=types.ApplicationSpec(working_directory="x")),
        rpc("UpdateApplication", name=APP, application=types.ApplicationSpec(schema={"input": "{"})),
        rpc("UnregisterApplication", name="nobody"),
        rpc("RegisterApplication", name=f"{APP}-full", application=full),
        rpc("GetApplication", name=f"{APP}-full"),
        rpc("UpdateApplication", name=f"{APP}-full", application=types.ApplicationSpec()),
        rpc("GetApplication", name=f"{APP}-full"),
        rpc("UpdateApplication", name=f"{APP}-full", application=types.ApplicationSpec(installer="conda", url="?")),
        rpc("GetApplication", name=f"{APP}-full"),
        rpc("UpdateApplication", name=f"{APP}-full", application=types.ApplicationSpec(max_instances=0)),
        rpc("GetApplication", name=f"{APP}-full"),
        rpc("UnregisterApplication", name=f"{APP}-full"),
        *(rpc("GetApplication", name=name) for name in ("flmrun", "flmexec", "flmping")),
        (
            "ListApplication",
            lambda client: sorted(
                one.metadata.name
                for one in client.frontend.ListApplication(messages.ListApplicationRequest()).applications
                if one.metadata.name in (APP, f"{APP}-full", "flmrun", "flmexec", "flmping")
            ),
        ),
        rpc("GetNode", name="nobody"),
        ("ListNodes", nodes),
    ]


def nodes(client: Client) -> Any:
    """What is said of a node, but for the machine."""
    listed = client.frontend.ListNodes(messages.ListNodesRequest()).nodes
    for node in listed:
        assert client.frontend.GetNode(messages.GetNodeRequest(name=node.metadata.name)).node == node
        assert node.metadata.id == node.metadata.name == node.spec.hostname
    return [sorted(MessageToDict(node)["status"]) for node in listed]


def sessions_and_tasks() -> list[Call]:
    """All that can be done with a session that gets no executor."""

    def spec(**fields: Any) -> Any:
        return types.SessionSpec(**{"application": APP, "max_instances": 0, **fields})

    resreq = types.ResourceRequirement(cpu=1, memory=2, gpu=0)
    session = spec(resreq=resreq, common_data=b"c")
    other, batch = f"{SESSION}-other", f"{SESSION}-batch"
    return [
        rpc("OpenSession", session_id=SESSION),
        rpc("OpenSession", session_id=SESSION, session=types.SessionSpec(application="nobody")),
        rpc("OpenSession", session_id=SESSION, session=types.SessionSpec()),
        rpc("CreateSession", session_id=SESSION),
        rpc("CreateSession", session_id=SESSION, session=types.SessionSpec(application="nobody")),
        rpc("CreateSession", session_id=SESSION, session=spec(batch_size=2, min_instances=1)),
        rpc("CreateSession", session_id=SESSION, session=spec(batch_size=2, max_instances=3)),
        rpc("OpenSession", session_id=SESSION, session=spec(batch_size=2, max_instances=3)),
        rpc("CreateSession", session_id=SESSION, session=session),
        rpc("CreateSession", session_id=SESSION, session=session),
        rpc("OpenSession", session_id=SESSION),
        rpc("OpenSession", session_id=SESSION, session=spec(resreq=resreq)),
        rpc("OpenSession", session_id=SESSION, session=spec(resreq=resreq, application="else")),
        rpc("OpenSession", session_id=SESSION, session=types.SessionSpec(application=APP, resreq=resreq)),
        rpc("OpenSession", session_id=SESSION, session=spec(resreq=types.ResourceRequirement(cpu=7))),
        rpc("OpenSession", session_id=SESSION, session=spec(resreq=resreq, min_instances=3)),
        rpc("OpenSession", session_id=SESSION, session=spec(resreq=resreq, max_instances=3)),
        rpc("OpenSession", session_id=SESSION, session=spec(resreq=resreq, priority=3)),
        rpc("OpenSession", session_id=SESSION, session=spec(resreq=resreq, batch_size=1)),
        rpc("OpenSession", session_id=SESSION, session=spec(resreq=resreq, batch_size=2)),
        rpc("OpenSession", session_id=SESSION, session=spec(resreq=resreq, batch_size=2, min_instances=1)),
        rpc("CreateSession", session_id=batch, session=spec(resreq=resreq, batch_size=2, common_data=b"")),
        rpc("GetSession", session_id=batch),
        rpc("OpenSession", session_id=other, session=spec(resreq=resreq, priority=4, min_instances=0)),
        (
            "ListSession",
            lambda client: sorted(
                (
                    without_times(MessageToDict(one))
                    for one in client.frontend.ListSession(messages.ListSessionRequest()).sessions
                    if one.metadata.id in (SESSION, other, batch)
                ),
                key=lambda one: str(one["metadata"]["id"]),
            ),
        ),
        rpc("UpdateApplication", name=APP, application=types.ApplicationSpec(command="true")),
        rpc("UnregisterApplication", name=APP),
        rpc("GetSession", session_id="nobody"),
        rpc("GetSession", session_id=SESSION),
        rpc("CreateTask"),
        rpc("CreateTask", task=types.TaskSpec()),
        rpc("CreateTask", task=types.TaskSpec(session_id="nobody")),
        rpc("CreateTask", task=types.TaskSpec(session_id=SESSION, input=b"input", output=b"is not taken")),
        rpc("CreateTask", task=types.TaskSpec(session_id=SESSION)),
        rpc("CreateTask", task=types.TaskSpec(session_id=SESSION, input=b"")),
        rpc("CreateTask", task=types.TaskSpec(session_id=SESSION, input=b"x" * (4 * 1024**2))),
        rpc("GetSession", session_id=SESSION),
        *(
            rpc("GetTask", session_id=SESSION, task_id=id)
            for id in ("1", "2", "3", "9", "0", "-1", "+1", "01", " 1", "1_0", "x", "", "1" * 30)
        ),
        rpc("GetTask", session_id="nobody", task_id="1"),
        *(rpc("WatchTask", stream=True, session_id=SESSION, task_id=id) for id in ("9", "x", "", "0", "-1")),
        rpc("WatchTask", stream=True, session_id="nobody", task_id="1"),
        rpc("ListTask", stream=True, session_id=SESSION),
        rpc("ListTask", stream=True, session_id="nobody"),
        rpc("DeleteSession", session_id=SESSION),
        rpc("DeleteSession", session_id="nobody"),
        rpc("CloseSession", session_id="nobody"),
        rpc("CloseSession", session_id=SESSION),
        rpc("CloseSession", session_id=SESSION),
        rpc("GetSession", session_id=SESSION),
        rpc("OpenSession", session_id=SESSION),
        rpc("OpenSession", session_id=SESSION, session=spec(resreq=resreq)),
        rpc("CreateSession", session_id=SESSION, session=session),
        rpc("CreateTask", task=types.TaskSpec(session_id=SESSION)),
        rpc("GetTask", session_id=SESSION, task_id="1"),
        rpc("WatchTask", stream=True, session_id=SESSION, task_id="2"),
        rpc("ListTask", stream=True, session_id=SESSION),
        rpc("DeleteSession", session_id=SESSION),
        rpc("DeleteSession", session_id=SESSION),
        rpc("GetTask", session_id=SESSION, task_id="1"),
        rpc("CreateSession", session_id=SESSION, session=session),
        rpc("CreateTask", task=types.TaskSpec(session_id=SESSION)),
        rpc("CloseSession", session_id=SESSION),
        rpc("CloseSession", session_id=other),
        rpc("CloseSession", session_id=batch),
        rpc("UpdateApplication", name=APP, application=types.ApplicationSpec(command="false")),
        rpc("GetApplication", name=APP),
        rpc("UnregisterApplication", name=APP),
        rpc("UnregisterApplication", name=APP),
        rpc("GetSession", session_id=SESSION),
        rpc("DeleteSession", session_id=SESSION),
    ]


def objects() -> list[Call]:
    """The object cache."""
    key = f"{APP}/a/b"
    schema = pa.schema([pa.field("x", pa.int64()), pa.field("y", pa.utf8())], metadata={"mine": "kept"})
    ours = schema.with_metadata({**schema.metadata, "flame.cache.format": "arrow-table-v1"})
    table = pa.table({"x": [1, 2], "y": ["a", None]}, schema=ours)
    path, command = flight.FlightDescriptor.for_path, flight.FlightDescriptor.for_command

    def put(descriptor: Any, table: Any) -> Callable[[Client], Any]:
        def call(client: Client) -> Any:
            import bson

            writer, reader = client.flight.do_put(descriptor, table.schema)
            for batch in table.to_batches() or [pa.record_batch([[] for _ in table.schema], table.schema)]:
                writer.write_batch(batch)
            writer.done_writing()
            answer = reader.read()
            writer.close()
            return dict(bson.decode(bytes(answer)))

        return call

    def read(ticket: bytes) -> Callable[[Client], Any]:
        def call(client: Client) -> Any:
            got = client.flight.do_get(flight.Ticket(ticket)).read_all()
            kept = {name.decode(): text.decode() for name, text in (got.schema.metadata or {}).items()}
            return [str(got.schema.remove_metadata()), kept, [repr(row) for row in got.to_pylist()]]

        return call

    def info(descriptor: Any) -> Callable[[Client], Any]:
        def call(client: Client) -> Any:
            got = client.flight.get_flight_info(descriptor)
            (end,) = got.endpoints
            place = [location.uri.decode() == client.cache_endpoint for location in end.locations]
            return [end.ticket.ticket.decode(), place, got.total_records, got.total_bytes]

        return call

    def action(kind: str, body: bytes) -> Callable[[Client], Any]:
        return lambda client: [one.body.to_pybytes().decode() for one in client.flight.do_action((kind, body))]

    rows = {
        "one column": pa.table({"version": pa.array([1], pa.uint64())}),
        "other names": pa.table({"a": pa.array([1], pa.uint64()), "b": pa.array([b"named otherwise"])}),
        "text": pa.table({"version": pa.array([1], pa.uint64()), "data": pa.array(["text"])}),
        "signed": pa.table({"version": pa.array([1], pa.int64()), "data": pa.array([b"signed"])}),
        "turned": pa.table({"data": pa.array([b"turned"]), "version": pa.array([1], pa.uint64())}),
        "null": pa.table({"version": pa.array([1], pa.uint64()), "data": pa.array([None], pa.binary())}),
        "wide": pa.table({"version": pa.array([1], pa.uint64()), "data": pa.array([b"w"]), "more": pa.array([1])}),
        "empty": pa.table({"version": pa.array([], pa.uint64()), "data": pa.array([], pa.binary())}),
    }
    return [
        ("get absent", lambda client: client.get(key)),
        ("get bad", lambda client: client.get("a/b")),
        ("patch absent", lambda client: client.patch(key, b"")),
        *((f"patch {bad!r}", lambda client, bad=bad: client.patch(bad, b"")) for bad in ("a", "a/b", "", "a/*")),
        *(
            (f"put {bad!r}", lambda client, bad=bad: client.put(bad, b""))
            for bad in ("a", "a/*", "", "/", "a//b", "a/../b", "a/b/c/d", "*/a", "a/b/*", "a/*/c", "a\\b/c", "a/b/")
        ),
        *(
            (f"get {bad!r}", read(bad.encode()))
            for bad in ("", ":", "a", "a/b/c/d:0", "a/*/c:0", f"{key}:", "a/b/c:x")
        ),
        *((f"get version {bad!r}", read(f"{key}:{bad}".encode())) for bad in ("-1", "+1", "1:2", " 1", "1" * 30)),
        ("get not utf-8", read(b"\xff")),
        ("put nothing", lambda client: client.put(key)),
        ("put command", put(command(b"put"), rows["wide"])),
        ("put PATCH", put(command(b"PATCH"), rows["wide"])),
        ("put PATCH:", put(command(b"PATCH:"), rows["wide"])),
        ("put command key", put(command(key.encode()), rows["wide"])),
        *((f"put {name}", put(path(f"{APP}/rows/{name.split()[0]}"), content)) for name, content in rows.items()),
        *((f"get {name}", read(f"{APP}/rows/{name.split()[0]}:0".encode())) for name in rows),
        ("put", lambda client: client.put(key, b"one", b"two")),
        ("patch", lambda client: client.patch(key, b"three")),
        ("patch rows", lambda client: client.send(command(f"PATCH:{key}".encode()), b"fo", b"ur")),
        *((f"patch {name}", put(command(f"PATCH:{key}".encode()), content)) for name, content in rows.items()),
        *((f"get {known}", lambda client, known=known: client.get(key, known)) for known in range(4)),
        ("get without version", read(key.encode())),
        ("get version 03", read(f"{key}:03".encode())),
        ("put again", lambda client: client.put(key, b"new")),
        *((f"get again {known}", lambda client, known=known: client.get(key, known)) for known in range(12)),
        ("info", info(path(key))),
        ("info absent", info(path("a/b/absent"))),
        ("info of parts", info(path("a", "b", "c"))),
        ("info of nothing", info(path())),
        ("info bad", info(path("a"))),
        ("info command", info(command(b"x"))),
        ("put table", put(path(f"{APP}/tables/t"), table)),
        *((f"get table {known}", read(f"{APP}/tables/t:{known}".encode())) for known in (0, 1, 2)),
        ("info table", info(path(f"{APP}/tables/t"))),
        ("patch table", put(command(f"PATCH:{APP}/tables/t".encode()), rows["wide"])),
        *((f"get table patched {known}", read(f"{APP}/tables/t:{known}".encode())) for known in (0, 1, 2)),
        ("put empty table", put(path(f"{APP}/tables/t"), table.slice(0, 0))),
        *((f"get empty table {known}", read(f"{APP}/tables/t:{known}".encode())) for known in (0, 2, 3)),
        ("put rows over table", lambda client: client.put(f"{APP}/tables/t", b"rows")),
        ("get rows over table", read(f"{APP}/tables/t:0".encode())),
        ("patch with a table", put(command(f"PATCH:{APP}/tables/t".encode()), table)),
        ("put again for patches", lambda client: client.put(key, b"base")),
        ("patch a thousand times", lambda client: [client.patch(key, b"x")["version"] for _ in range(1000)][-1:]),
        ("patch once more", lambda client: client.patch(key, b"x")),
        ("get all patches", lambda client: [len(client.get(key)), len(client.get(key, 500))]),
        ("put 20 MB", lambda client: client.put(f"{APP}/a/large", b"x" * 20_000_000)),
        ("patch 20 MB", lambda client: client.patch(f"{APP}/a/large", b"x" * 20_000_000)),
        ("get 40 MB", lambda client: [len(data) for _, _, data in client.get(f"{APP}/a/large")]),
        ("list", lambda client: [name in listed(client) for name in (key, f"{APP}/tables/t", f"{APP}/a/x")]),
        *((f"delete {bad!r}", action("DELETE", bad.encode())) for bad in ("a", "", "*", "a/*/c", "a/b/*", "a/b/c/d")),
        ("drop", action("DROP", b"a/b/c")),
        ("delete lower", action("delete", b"a/b/c")),
        ("delete not utf-8", action("DELETE", b"\xff/\xff")),
        ("actions", lambda client: [list(one) for one in client.flight.list_actions()]),
        ("delete", lambda client: client.delete(f"{APP}/*")),
        ("delete again", lambda client: client.delete(key)),
        ("list deleted", lambda client: [name in listed(client) for name in (key, f"{APP}/tables/t")]),
        ("put after", lambda client: client.put(key, b"new")),
        ("delete prefix", lambda client: client.delete(f"{APP}/a")),
        ("get gone", lambda client: client.get(key)),
    ]


def listed(client: Client) -> list[str]:
    """The keys of all objects. Read past pyarrow, which takes Flame's empty schema for an error."""
    channel = grpc.insecure_channel(client.cache_endpoint.removeprefix("grpc://"))
    call = channel.unary_stream("/arrow.flight.protocol.FlightService/ListFlights")
    infos = list(call(b"", timeout=10))
    channel.close()
    return [key.decode() for info in infos for key in re.findall(rb"[\w-]+/[\w-]+/[\w-]+", info)]


def calls() -> list[Call]:
    """All of them; a name that comes again gets a number."""
    numbered: dict[str, Call] = {}
    for name, call in (*applications(), *sessions_and_tasks(), *objects()):
        plain = told(name)
        unique = next(
            one for count in range(1, 99) if (one := plain if count == 1 else f"{plain} #{count}") not in numbered
        )
        numbered[unique] = unique, call
    return list(numbered.values())


def told(content: Any) -> Any:
    """The content without what is another in each run."""
    if isinstance(content, dict):
        return {key: told(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [told(value) for value in content]
    if isinstance(content, bytes):
        return content.decode()
    return content.replace(APP, "APP").replace(SESSION, "SESSION") if isinstance(content, str) else content


def answer(client: Client, call: Callable[[Client], Any]) -> Any:
    """What comes back, as JSON has it."""
    try:
        got = call(client)
    except grpc.RpcError as error:
        refusal: Any = error
        return told([refusal.code().name, refusal.details()])
    except (pa.ArrowException, OSError) as error:
        # Each server's Flight library puts words of its own around the sentence.
        sentence = str(error).partition("with message: ")[2] or str(error)
        sentence = sentence.partition(". gRPC client")[0].partition(". Detail")[0]
        return told([type(error).__name__, sentence])
    if isinstance(got, dict):
        return told({**got, "endpoint": got["endpoint"] == client.cache_endpoint})
    if hasattr(got, "DESCRIPTOR"):
        return told(without_times(MessageToDict(got)))
    return told(
        by_id([without_times(MessageToDict(one)) if hasattr(one, "DESCRIPTOR") else one for one in got or []])
    )


def without_times(content: Any) -> Any:
    """Times are told by their presence."""
    if isinstance(content, dict):
        return {key: "…" if key.endswith("Time") else without_times(value) for key, value in content.items()}
    return [without_times(value) for value in content] if isinstance(content, list) else content


def by_id(content: Any) -> Any:
    """A list of tasks comes in any order from Flame, and with the events of those that were got before."""
    if isinstance(content, list) and content and isinstance(content[0], dict) and "status" in content[0]:
        for task in content:
            if "sessionId" in task["spec"]:
                task["status"].pop("events", None)
        return sorted(content, key=lambda task: str(task["metadata"]["id"]))
    return content


def record() -> None:
    """Write what the cluster answers."""
    client = Client(Path("/nonexistent"), os.environ["FLAME_ENDPOINT"], os.environ["FLAME_CACHE_ENDPOINT"])
    seen = {name: answer(client, call) for name, call in calls()}
    SEEN.write_text(json.dumps(seen, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(seen)} answers in {SEEN.name}", file=sys.stderr)


if __name__ == "__main__":
    record()
