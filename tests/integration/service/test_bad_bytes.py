"""Bytes that make no sense, given to an instance and its worker: each call is answered, and the next task works."""

from __future__ import annotations

import pickle
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flameagent.apis import Question
from flameagent.service.process.connection import Connection
from flameagent.service.process.messages import FromWorker, ToWorker, receive
from flamewire.stubs import shim as messages
from flamewire.stubs import types
from tests.integration.service.talk import Talk
from tests.support.shim import Shim, TaskFailed

few = settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))

SERVICE = """
from flameagent.service import FlameInstance
instance = FlameInstance()

@instance.entrypoint
def do(what):
    return f"did {what}"
"""

pickles = st.binary(max_size=60).map(lambda data: pickle.dumps(data)[:-1] + data) | st.sampled_from(
    [pickle.dumps(Question("?"))[:-3], b"\x80\x04K", pickle.dumps(None), b"(" * 100_000]
)


@few
@given(data=st.binary(max_size=60) | pickles)
@example(data=b"")
def test_a_task_that_cannot_be_read_fails_with_a_sentence_and_changes_nothing(
    instance: Shim, talk: Talk, data: bytes
) -> None:
    result = types.TaskResult.FromString(
        instance.call("OnTaskInvoke", messages.TaskContext(task_id="1", session_id="s", input=data))
    )
    assert result.return_code == 0 or result.message
    assert "Traceback" not in result.message
    assert talk.turns() == []


def test_requests_that_are_no_messages_are_refused_and_the_next_task_works(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(SERVICE)
    with Shim(tmp_path) as shim:
        for method in ("OnSessionEnter", "OnTaskInvoke", "OnSessionLeave", "OnWhatever"):
            for request in (b"\xff", b"\x0a\xff", b"garbage" * 10):
                with pytest.raises(Exception, match=r"StatusCode"):
                    shim.call(method, request)
        assert shim.enter().invoke("one") == "did one"


@pytest.mark.parametrize("common_data", [b"garbage", b"\x05\0\0\0\0"])
def test_a_session_whose_common_data_is_no_reference_fails_each_task_with_a_sentence(
    tmp_path: Path, common_data: bytes
) -> None:
    (tmp_path / "agent.py").write_text(SERVICE)
    with Shim(tmp_path) as shim:
        shim.enter(common_data=common_data)
        for task in "1", "2":
            with pytest.raises(TaskFailed, match="The session cannot be served"):
                shim.invoke("one", task)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(data=st.binary(max_size=80), whole=st.booleans(), kind=st.sampled_from([FromWorker, ToWorker]))
def test_what_instance_and_worker_say_is_a_message_or_an_end(data: bytes, whole: bool, kind: object) -> None:
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as end:
        with theirs:
            theirs.sendall((len(data).to_bytes(4, "big") if whole else b"") + data)
        with suppress(EOFError):
            assert receive(end, kind)


def test_a_worker_that_talks_nonsense_is_ended_and_another_runs_the_task(tmp_path: Path) -> None:
    nonsense = (
        "import os, sys\nfrom pathlib import Path\n"
        'if not Path("said").exists():\n    Path("said").touch()\n    os.write(int(sys.argv[2]), b"\\xff" * 500)\n'
    )
    (tmp_path / "agent.py").write_text(nonsense + SERVICE)
    with Shim(tmp_path) as shim:
        assert shim.enter().invoke("one") == "did one"
    assert (tmp_path / "said").exists()
