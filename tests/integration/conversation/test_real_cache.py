"""Conversations in a real object cache, and what unmodified flamepy 0.6 reads of them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import flight

from flameagent.apis import MyContext
from flameagent.conversation import ConversationLog, EditBody, FlameSession, context
from flameagent.flame import Endpoints, Refused
from flameagent.flame.cache import ObjectCache
from flameagent.flame.endpoints import address
from flamewire.object_ref import ObjectRef
from tests.support.conversations import added, begin, cold, cold_from_the_first, everything, message, turn

REPOSITORY = Path(__file__).parents[3]


def flamepy(program: str, flame: Endpoints, *arguments: str) -> str:
    """What a program prints that has flamepy, and nothing of ours but `apis`."""
    environ = {
        **os.environ,
        "FLAME_ENDPOINT": flame.frontend,
        "FLAME_CACHE_ENDPOINT": flame.cache,
        "PYTHONPATH": str(REPOSITORY),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


READS = """
import sys, json, cloudpickle, flamepy
ref = flamepy.core.ObjectRef(endpoint=sys.argv[1], key=sys.argv[2], version=0)
def fold(base, patches):
    context = cloudpickle.loads(base)
    return [type(context).__module__, context.prompt, context.messages, [json.loads(patch) for patch in patches]]
print(json.dumps(flamepy.core.get_object(ref, fold)))
print(json.dumps(cloudpickle.loads(flamepy.core.get_object(ref)).prompt))
"""


def test_plain_flamepy_reads_the_rows(flame: Endpoints, real_cache: ObjectCache, prefix: str) -> None:
    key = begin(real_cache, ['{"role": "user", "content": "before"}'], prefix=prefix)
    log = cold(real_cache, key)
    log.append(turn("t1"))
    log.append(EditBody("add", items=[message("half a pair \ud800, and 😊")]))
    folded, prompt = map(json.loads, flamepy(READS, flame, flame.cache, key).splitlines())
    module, said, messages, records = folded
    assert (module, said, prompt) == ("apis", "Be kind.", "Be kind.")
    assert messages == ['{"role": "user", "content": "before"}']
    assert [record["kind"] for record in records] == ["turn", "edit"]
    assert records[0]["items"] == turn("t1").items
    assert records[1]["items"] == [message("half a pair \ud800, and 😊")]
    assert records[1]["prev"] == records[0]["id"]


WRITES = """
import sys, cloudpickle, flamepy
from flameagent.apis import MyContext
data = cloudpickle.dumps(MyContext("From flamepy.", ['{"role": "user", "content": "h\\u00e9"}']))
ref = flamepy.core.put_object(sys.argv[1], data)
print(ref.encode().hex())
"""


def test_a_base_that_plain_flamepy_writes_is_read(flame: Endpoints, real_cache: ObjectCache, prefix: str) -> None:
    ref = ObjectRef.decode(bytes.fromhex(flamepy(WRITES, flame, prefix)))
    log = cold(real_cache, ref.key)
    log.append(turn("t1"))
    assert log.conversation.prompt == "From flamepy."
    assert log.conversation.items()[0] == message("hé")
    assert everything(cold(real_cache, ref.key)) == everything(log)
    assert ObjectRef.decode(ref.encode()) == ref


def test_rows_of_others_are_never_unpickled(flame: Endpoints, real_cache: ObjectCache, prefix: str) -> None:
    """A patch of plain flamepy may be any pickle: it is an unreadable record, and nothing runs."""
    key = begin(real_cache, prefix=prefix)
    trap = Path(f"ran-{os.getpid()}")

    class Runs:
        def __reduce__(self) -> object:
            return (trap.touch, ())

    client = flight.connect(f"grpc://{address(flame.cache, 9090)[0]}")
    schema = pa.schema([pa.field("version", pa.uint64()), pa.field("data", pa.binary())])
    for data in (b"FLM\x00" + pickle.dumps(Runs()), b"FLM\x00" + pickle.dumps("text"), b"FLM\x01abc", b"", b"\x80"):
        writer, reader = client.do_put(flight.FlightDescriptor.for_command(f"PATCH:{key}".encode()), schema)
        writer.write_batch(
            pa.record_batch([pa.array([0], pa.uint64()), pa.array([data], pa.binary())], schema=schema)
        )
        writer.done_writing()
        reader.read()
        writer.close()
    client.close()
    assert [row for _, row in real_cache.get(key).patches] == [None] * 5
    damage = cold(real_cache, key).refresh().damage
    assert damage is not None
    assert damage.record == 1
    assert not trap.exists()


def test_an_arrow_table_is_no_conversation(flame: Endpoints, real_cache: ObjectCache, prefix: str) -> None:
    client = flight.connect(f"grpc://{address(flame.cache, 9090)[0]}")
    schema = pa.schema([pa.field("n", pa.int64())], metadata={"flame.cache.format": "arrow-table-v1"})
    writer, reader = client.do_put(flight.FlightDescriptor.for_path(f"{prefix}/table"), schema)
    writer.write_batch(pa.record_batch([pa.array([1, 2])], schema=schema))
    writer.done_writing()
    reader.read()
    writer.close()
    client.close()
    with pytest.raises(Refused, match="not a conversation"):
        real_cache.get(f"{prefix}/table")


def test_writers_at_once_agree(flame: Endpoints, real_cache: ObjectCache, prefix: str) -> None:
    key = begin(real_cache, prefix=prefix)
    caches = [ObjectCache(flame) for _ in range(3)]
    logs = [ConversationLog(cache, key, segment_records=5) for cache in caches]

    def write(name: str, log: ConversationLog) -> None:
        for number in range(12):
            log.append(turn(f"{name}{number}") if number % 3 else added(f"{name}{number}"))

    threads = [threading.Thread(target=write, args=each) for each in zip("abc", logs, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    readers = [*logs, cold(real_cache, key, 5), cold_from_the_first(real_cache, key)]
    seen = [everything(log) for log in readers]
    assert all(each == seen[0] for each in seen)
    names = [item["content"].split(">")[0][1:] for item in seen[0]["items"] if item["content"].endswith(" 0")]
    assert sorted(names) == sorted(f"{name}{number}" for name in "abc" for number in range(12))
    for name in "abc":
        assert [int(each[1:]) for each in names if each[0] == name] == list(range(12))
    assert logs[0].conversation.segments >= 6
    for cache in caches:
        cache.close()


async def test_a_session_of_the_sdk_lives_in_it(flame: Endpoints, real_cache: ObjectCache, prefix: str) -> None:
    key = real_cache.put(prefix, context.write(MyContext("p"))).key
    session = FlameSession("s", cold(real_cache, key, 3))
    for number in range(7):
        await session.add_items([message(str(number))])
    assert await session.pop_item() == message("6")
    other = FlameSession("s", cold(ObjectCache(flame), key, 3))
    assert await other.get_items() == [message(str(number)) for number in range(6)]
