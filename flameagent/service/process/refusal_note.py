"""A note of a turn that no agent could be found for, written by a process of its own.

`python -m flameagent.service.process.refusal_note`, with what it is of on standard input. There is no worker that
could write it, and the instance, which is small, has no cache. It ends when it has written: nobody ends it before.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import NamedTuple

from flameagent.service.process.messages import Enter, Invoke, decode, encode

_PATIENCE = 5.0  # seconds that whoever asked waits for the note at most
_TIME = 60.0  # seconds that it has, for a cache that is slow


class RefusedTurn(NamedTuple):
    """A task of a session that was not run, why, and since when it was there (epoch milliseconds)."""

    application: str
    session_id: str
    common_data: bytes | None
    task_id: str
    input: bytes | None
    message: str
    code: str
    began: int


def note(session: Enter, task: Invoke, message: str, code: str, began: int) -> None:
    """Have it noted, and wait for that, but not for long. Never raises: the turn fails in any case."""
    import subprocess  # which an instance does without, unless it comes to this

    refused = RefusedTurn(
        session.application,
        session.session_id,
        session.common_data,
        task.task_id,
        task.input,
        message,
        code,
        began,
    )
    with suppress(OSError, subprocess.SubprocessError):
        writer = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Flame's SIGTERM to our group does not strike it inside a write
        )
        assert writer.stdin is not None
        with writer.stdin as given:
            given.write(encode(refused))
        writer.wait(_PATIENCE)


def main() -> None:
    """Write the note that standard input has."""
    from flameagent import wire
    from flameagent.apis import Decision, Question
    from flameagent.conversation.failures import Failure, FailureLog
    from flameagent.flame import Endpoints, FlameError
    from flameagent.flame.cache import ObjectCache
    from flamewire.object_ref import ObjectRef

    refused: RefusedTurn = decode(sys.stdin.buffer.read(), RefusedTurn | Enter)
    try:
        asked = wire.read(refused.input, Question, Decision)
        reference = ObjectRef.decode(refused.common_data or b"")
    except ValueError:
        return  # no question, or a session that keeps nothing
    if not isinstance(asked, Question):
        return
    cache = ObjectCache(Endpoints.of_instance(os.environ, reference.endpoint))
    failure = Failure.of_question(
        asked,
        turn=str(asked.id) or f"{refused.session_id}/{refused.task_id}",
        task=refused.task_id,
        began=refused.began,
        ended=int(time.time() * 1000),
        code=refused.code,
        reason=refused.message,
    )
    with suppress(FlameError):
        FailureLog(cache, refused.application, refused.session_id).add(failure, time.monotonic() + _TIME)


if __name__ == "__main__":
    main()
