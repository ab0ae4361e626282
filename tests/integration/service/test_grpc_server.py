"""A real instance over its socket: whatever clients send, give up or do not read, each call is answered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import resource
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flamewire.limits import MESSAGE_LIMIT
from flamewire.stubs import shim as messages
from flamewire.stubs import types
from tests.support.http2 import PREFACE, frame, let_it_read, request
from tests.support.shim import Shim

SERVICE = """
import time
from pathlib import Path
from flameagent.service import FlameInstance

instance = FlameInstance()

@instance.entrypoint
def answer(question):
    if question == "wait":
        Path("waits").touch()
        while not Path("go").exists():
            time.sleep(0.01)
    return question
"""

ENTER = "/flame.v1.Instance/OnSessionEnter"
INVOKE = "/flame.v1.Instance/OnTaskInvoke"


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "agent.py").write_text(SERVICE)
    with Shim(folder) as shim:
        yield shim.enter()


@pytest.fixture
def instance(warm: Shim) -> Iterator[Shim]:
    """An instance that answers before the test and after it."""
    assert warm.invoke("before") == "before"
    yield warm
    assert warm.invoke("after") == "after"
    assert warm.process.poll() is None
    assert "Traceback" not in warm.log.read_text()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Shim]:
    """An instance of the test's own."""
    (tmp_path / "agent.py").write_text(SERVICE)
    with Shim(tmp_path) as shim:
        yield shim.enter()


class Waiting:
    """A task that runs until it is let go; its folder is that of the log."""

    def __init__(self, shim: Shim) -> None:
        self._folder = shim.log.parent
        for name in "waits", "go":
            (self._folder / name).unlink(missing_ok=True)

    def until_it_runs(self) -> None:
        wait_until((self._folder / "waits").exists, "the task does not begin")

    def let_go(self) -> None:
        (self._folder / "go").touch()


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def task(question: str) -> bytes:
    data: bytes = messages.TaskContext(
        task_id="1", session_id="s-1", input=pickle.dumps(question)
    ).SerializeToString()
    return data


def connected(shim: Shim) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(shim.socket))
    connection.settimeout(60)
    return connection


def ended_by_the_server(connection: socket.socket) -> bool:
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


def invoke(channel: grpc.Channel) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(INVOKE, bytes, bytes)


def test_as_much_as_flame_takes_goes_both_ways(instance: Shim) -> None:
    question = "x" * (MESSAGE_LIMIT - 1000)
    assert instance.invoke(question) == question


def test_a_message_above_the_limit_is_refused(instance: Shim) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        instance.invoke("x" * MESSAGE_LIMIT)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_method_that_flame_does_not_have_is_unimplemented(instance: Shim) -> None:
    for method in "OnWhatever", "OnTaskInvoke/", "":
        with pytest.raises(grpc.RpcError) as raised:
            instance.call(method, b"")
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_compressed_message_is_refused_by_name(instance: Shim) -> None:
    with grpc.insecure_channel(f"unix:{instance.socket}", compression=grpc.Compression.Gzip) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            invoke(channel)(task("x" * 10_000), timeout=60)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "compressed" in raised.value.details()


def test_calls_at_once_over_one_connection_and_several_are_all_answered(instance: Shim) -> None:
    questions = [f"{number}" * 1000 for number in range(24)]
    with ThreadPoolExecutor(20) as threads:
        assert list(threads.map(instance.invoke, questions)) == questions

    async def ask() -> list[bytes]:
        channels = [
            grpc.aio.insecure_channel(f"unix:{instance.socket}", options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(4)
        ]
        calls = [channel.unary_unary(INVOKE, bytes, bytes)(task(each)) for each in questions for channel in channels]
        answers = await asyncio.gather(*calls)
        for channel in channels:
            await channel.close()
        return answers

    answers = [types.TaskResult.FromString(answer) for answer in asyncio.run(ask())]
    assert [pickle.loads(answer.output) for answer in answers] == [each for each in questions for _ in range(4)]


def test_a_call_that_is_cancelled_or_too_late_does_not_keep_the_next_from_its_answer(instance: Shim) -> None:
    waiting = Waiting(instance)
    with grpc.insecure_channel(f"unix:{instance.socket}") as channel:
        cancelled = invoke(channel).future(task("wait"))
        waiting.until_it_runs()
        with pytest.raises(grpc.RpcError) as raised:
            invoke(channel)(task("late"), timeout=0.2)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        cancelled.cancel()
        next_one = invoke(channel).future(task("next"))
        waiting.let_go()
        assert pickle.loads(types.TaskResult.FromString(next_one.result(60)).output) == "next"


def test_a_client_that_goes_away_while_its_task_runs_harms_nobody(instance: Shim) -> None:
    waiting = Waiting(instance)
    with connected(instance) as connection:
        connection.sendall(request(INVOKE.encode(), task("wait")))
        waiting.until_it_runs()
    waiting.let_go()
    assert instance.invoke("next") == "next"


def test_a_client_is_pinged_back_while_a_task_runs(instance: Shim) -> None:
    waiting = Waiting(instance)
    often = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(f"unix:{instance.socket}", options=often) as channel, connected(instance) as raw:
        asked = invoke(channel).future(task("wait"))
        waiting.until_it_runs()
        raw.sendall(PREFACE + frame(4, 0, 0))
        let_it_read(raw)
        with pytest.raises(grpc.FutureTimeoutError):
            asked.result(1)
        waiting.let_go()
        assert pickle.loads(types.TaskResult.FromString(asked.result(60)).output) == "wait"


def test_the_session_can_be_left_while_its_task_runs(own: Shim) -> None:
    waiting = Waiting(own)
    with grpc.insecure_channel(f"unix:{own.socket}") as channel:
        asked = invoke(channel).future(task("wait"))
        waiting.until_it_runs()
        own.leave()
        result = types.TaskResult.FromString(asked.result(60))
    assert result.return_code == -1
    assert result.message


def test_sigterm_ends_it_while_a_task_runs(own: Shim) -> None:
    waiting = Waiting(own)
    with grpc.insecure_channel(f"unix:{own.socket}") as channel:
        asked = invoke(channel).future(task("wait"))
        waiting.until_it_runs()
        own.terminate()
        assert own.process.wait(60) == 0
        try:
            assert types.TaskResult.FromString(asked.result(60)).return_code == -1
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]


def test_an_instance_that_was_killed_before_it_listened_does_not_keep_the_next_from_it(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(SERVICE)
    with tempfile.TemporaryDirectory(prefix="fl") as folder, socket.socket(socket.AF_UNIX) as left:
        endpoint = Path(folder) / "i.sock"
        left.bind(f"{endpoint}.tmp")
        shim = Shim(tmp_path, FLAME_INSTANCE_ENDPOINT=str(endpoint))
        shim.socket = endpoint
        with shim:
            assert shim.enter().invoke("one") == "one"


def test_half_a_call_and_then_nothing_harms_nobody(instance: Shim) -> None:
    whole = request(INVOKE.encode(), task("never"))
    with contextlib.ExitStack() as open_:
        for end in range(0, len(whole), 11):
            open_.enter_context(connected(instance)).sendall(whole[:end])
        assert instance.invoke("meanwhile") == "meanwhile"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100_000,
        PREFACE + frame(4, 0, 0) + frame(1, 0, 1) + frame(9, 0, 1, b"x" * 16_000) * 100,
        PREFACE + frame(4, 0, 0) + frame(1, 5, 1, b"\0\x01a\x7f\x80\x7d" + b"v" * 16_256) * 8,
        request(INVOKE.encode(), task("one")) + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2,
        request(INVOKE.encode(), task("one")) + frame(7, 0, 0, b"\0" * 8),
    ],
    ids=["HTTP/1", "garbage", "headers without an end", "large headers", "a window beyond its limit", "goodbye"],
)
def test_who_breaks_the_rules_is_hung_up_on(instance: Shim, sent: bytes) -> None:
    with connected(instance) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
        assert ended_by_the_server(connection)


def test_who_reads_nothing_does_not_fill_the_instances_memory(instance: Shim) -> None:
    before = memory(instance)
    with connected(instance) as connection:
        connection.sendall(PREFACE + frame(4, 0, 0))
        connection.settimeout(2)
        pings, sent = frame(6, 0, 0, b"12345678") * 10_000, 0
        with contextlib.suppress(TimeoutError):
            while sent < 50_000_000:
                sent += connection.send(pings)
        assert sent < 50_000_000, "it goes on reading"
        assert instance.invoke("meanwhile") == "meanwhile"
        assert memory(instance) < before + 20_000_000


def memory(shim: Shim) -> int:
    return int(Path(f"/proc/{shim.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_more_connections_than_it_keeps_harm_nobody_who_has_one(instance: Shim) -> None:
    with contextlib.ExitStack() as open_:
        many = [open_.enter_context(connected(instance)) for _ in range(200)]
        assert instance.invoke("meanwhile") == "meanwhile"
        assert ended_by_the_server(many[-1])


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs a limit that is set from outside")
def test_without_a_free_descriptor_who_is_connected_is_served_and_later_others_too(instance: Shim) -> None:
    pid = instance.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    free = next(number for number in itertools.count() if number not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        with connected(instance) as waits:
            waits.sendall(PREFACE + frame(4, 0, 0))
            assert instance.invoke("meanwhile") == "meanwhile"
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            let_it_read(waits)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


frames = st.builds(
    frame,
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 3, 2**31 - 1]),
    st.binary(max_size=30) | st.sampled_from([b"\0\0\0\1", b"\x83\x86\x44\x01/", b"12345678", b"\0" * 5]),
)


@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(begin=st.sampled_from([b"", PREFACE, request(ENTER.encode())]), sent=st.lists(frames | st.binary(max_size=30)))
def test_no_bytes_keep_others_from_their_answers(warm: Shim, begin: bytes, sent: list[bytes]) -> None:
    with connected(warm) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(begin + b"".join(sent))
        assert warm.invoke("meanwhile") == "meanwhile"
