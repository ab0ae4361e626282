"""The object cache over Arrow Flight."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyarrow import flight

if TYPE_CHECKING:
    from tests.integration.engine.client import Client


@pytest.fixture
def key() -> str:
    """A key that nobody has used."""
    return f"app/{uuid.uuid4().hex[:8]}/object"


def test_a_put_under_a_prefix_gets_a_key_of_its_own(client: Client) -> None:
    reference = client.put("app/session", b"one")
    assert reference["endpoint"] == client.cache_endpoint
    assert reference["version"] == 1
    application, session, object_id = reference["key"].split("/")
    assert (application, session) == ("app", "session")
    assert uuid.UUID(object_id)
    assert client.get(reference["key"]) == [(1, "base", b"one")]


def test_a_put_again_is_a_new_version_without_the_patches(client: Client, key: str) -> None:
    assert client.put(key, b"one")["version"] == 1
    assert client.patch(key, b"more")["version"] == 2
    assert client.put(key, b"tw", b"o")["version"] == 3  # rows are put together
    assert client.get(key) == [(3, "base", b"two")]
    assert client.get(key, 2) == [(3, "base", b"two")]  # older than the base: everything


def test_a_reader_gets_what_it_lacks(client: Client, key: str) -> None:
    client.put(key, b"base")
    for number in range(3):
        assert client.patch(key, b"%d" % number) == {
            "endpoint": client.cache_endpoint,
            "key": key,
            "version": number + 2,
        }
    everything = [(1, "base", b"base"), (2, "patch", b"0"), (3, "patch", b"1"), (4, "patch", b"2")]
    assert client.get(key) == everything
    assert client.get(key, 1) == everything[1:]
    assert client.get(key, 3) == everything[3:]
    assert client.get(key, 4) == []
    assert client.get(key, 9) == everything  # a version that never was
    reader = client.flight.do_get(flight.Ticket(key.encode()))
    assert [batch.data.num_rows for batch in reader] == [1, 1, 1, 1]


def test_an_object_takes_a_thousand_patches(client: Client, key: str) -> None:
    client.put(key, b"base")
    for _ in range(1000):
        client.patch(key, b"x")
    with pytest.raises(pa.ArrowInvalid, match=r"has reached maximum delta count \(1000\)"):
        client.patch(key, b"x")
    assert len(client.get(key)) == 1001
    assert client.put(key, b"again")["version"] == 1002
    assert client.patch(key, b"x")["version"] == 1003


def test_patches_of_many_writers_get_a_version_each(client: Client, key: str) -> None:
    client.put(key, b"base")
    versions: list[int] = []

    def write() -> None:
        for _ in range(25):
            versions.append(client.patch(key, b"x")["version"])

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(2, 102))


def test_deleting_takes_an_object_a_session_or_an_application(client: Client) -> None:
    application = uuid.uuid4().hex
    keys = [f"{application}/{session}/{name}" for session in ("a", "ab") for name in ("x", "xy")]
    for key in keys:
        client.put(key, b"")

    def there() -> list[str]:
        listed = [info.descriptor.path[0].decode() for info in client.flight.list_flights()]
        return [key for key in keys if key in listed]

    client.delete(f"{application}/a/x")
    assert there() == keys[1:]
    client.delete(f"{application}/a")
    assert there() == keys[2:]
    client.delete(f"{application}/*")
    assert there() == []
    client.delete(f"{application}/*")  # nothing there is no error
    with pytest.raises(pa.ArrowKeyError, match="not found"):
        client.get(keys[0])
    assert client.put(keys[0], b"again")["version"] == 1


def test_an_absent_object_and_a_bad_key_are_told_apart(client: Client) -> None:
    with pytest.raises(pa.ArrowKeyError, match="object <a/b/c> not found") as caught:
        client.get("a/b/c")
    assert "Traceback" not in str(caught.value)
    assert ".py" not in str(caught.value)
    with pytest.raises(pa.ArrowKeyError, match="object <a/b/c> not found for patch"):
        client.patch("a/b/c", b"")
    for bad in ("a", "a/b", "a//b", "a/../b", "a/b/c/d"):
        with pytest.raises(pa.ArrowInvalid):
            client.get(bad)
        with pytest.raises(pa.ArrowInvalid):
            client.patch(bad, b"")
    for bad in ("a", "a/b/c/d", "a/*", "a/*/c", "a/b/*"):
        with pytest.raises(pa.ArrowInvalid):
            client.put(bad, b"")
    with pytest.raises(pa.ArrowInvalid, match="Invalid version"):
        client.flight.do_get(flight.Ticket(b"a/b/c:x"))
    with pytest.raises(pa.ArrowInvalid, match="No data received"):
        client.put("a/b/c")
    with pytest.raises(pa.ArrowInvalid, match="Only DELETE is supported"):
        list(client.flight.do_action(("DROP", b"a/b/c")))


def test_where_an_object_is_can_be_asked_before_it_is_there(client: Client) -> None:
    info = client.flight.get_flight_info(flight.FlightDescriptor.for_path("a/b/absent"))
    assert info.endpoints[0].ticket.ticket == b"a/b/absent"
    assert info.endpoints[0].locations[0].uri.decode() == client.cache_endpoint


def test_a_large_object_passes(client: Client, key: str) -> None:
    data = os.urandom(40_000_000)
    client.put(key, data)
    assert client.get(key) == [(1, "base", data)]


def test_flamepy_keeps_objects_patches_and_tables(client: Client) -> None:
    program = """
import flamepy, pyarrow as pa
from flamepy.core import get_object, patch_object, put_object, update_object

both = lambda base, patches: (base, patches)
ref = put_object("app/flamepy", {"a": 1})
assert get_object(ref) == {"a": 1}
ref = patch_object(patch_object(ref, "x"), "y")
assert ref.version == 3 and get_object(ref, both) == ({"a": 1}, ["x", "y"])
ref = update_object(ref, "new")
assert get_object(ref, both) == ("new", [])

table = pa.table({"x": [1, 2], "y": ["a", "b"]}, metadata={"mine": "kept"})
ref = put_object("app/flamepy", table)
assert get_object(ref).equals(table, check_metadata=True)
empty = table.slice(0, 0)
ref = update_object(ref, empty)
ref.version = 0
assert ref.version == 0 and get_object(ref).schema == empty.schema
print("done")
"""
    environment = {**os.environ, "FLAME_ENDPOINT": client.endpoint, "FLAME_CACHE_ENDPOINT": client.cache_endpoint}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.stdout == "done\n", done.stderr
