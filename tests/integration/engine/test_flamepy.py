"""flamepy 0.6.0 as it is: client and service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.engine.client import Client

PROGRAM = """
import sys
import flamepy
from flamepy import service

flamepy.register_application("words", {"command": sys.executable, "arguments": [sys.argv[1]]})
with_context = service.Session("words", ctx={"kept": [1, 2]})
assert with_context.invoke("hello") == ("HELLO", {"kept": [1, 2]}), "first"
again = service.Session(session_id=with_context.id())
assert again.invoke("hello again") == ("HELLO AGAIN", {"kept": [1, 2]}), "again"
assert again.context() == {"kept": [1, 2]}
try:
    again.invoke(3)
except flamepy.FlameError as error:
    print(error)
assert [session.application for session in flamepy.list_sessions() if session.id == again.id()] == ["words"]
session = flamepy.open_session(again.id())
assert [task.state.name for task in session.list_tasks()] == ["SUCCEED", "SUCCEED", "FAILED"]
assert [event.code for event in session.get_task("3").events] == [0, 1, 3]
session.close()
flamepy.unregister_application("words")
print("done")
"""


def test_flamepys_own_client_and_service_work(client: Client) -> None:
    environment = {**os.environ, "FLAME_ENDPOINT": client.endpoint, "FLAME_CACHE_ENDPOINT": client.cache_endpoint}
    service = Path(__file__).parent / "flamepy_service.py"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(service)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.stdout.splitlines()[-1:] == ["done"], done.stdout + done.stderr


def test_flamepy_can_be_imported_after_the_engines_messages() -> None:
    program = """
import sys
from flamewire.stubs import types
assert "flamepy" not in sys.modules and "fastapi" not in sys.modules
import flamepy
import flamepy.proto.types_pb2
assert flamepy.proto.types_pb2.Task is types.Task
assert flamepy.core.types.TaskState.SUCCEED == types.Succeed
from flamewire import stubs
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr


def test_importing_localflame_is_light() -> None:
    program = """
import sys
import localflame
localflame.find()
heavy = {"grpc", "pyarrow", "google", "asyncio", "bson", "sqlite3"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
