"""The failures of a session's turns: records beside its conversation, for whoever asks later why there was no answer.

They are in objects of their own, so nothing of them is in the conversation, and no model sees them. Promises that at
least the newest 128 are kept, and never more than twice as many; and that a record which nobody can read hides no
other. Blocking.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import msgspec

from flameagent.apis import Question
from flameagent.conversation.codec import decode, encode
from flameagent.conversation.usage import Usage
from flameagent.flame.errors import NotFound, Unreachable
from flameagent.flame.objects import Rows
from flamewire.failpoints import failpoint
from flamewire.object_ref import ObjectRef

_NAMES = ("failures-0", "failures-1")
_ROWS = 128  # of an object, after which the other one is begun anew

_QUESTION, _REASON, _NAME, _ATTACHMENTS = 2000, 1000, 200, 20  # characters, and how many


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A turn that failed; times are in epoch milliseconds.

    `question` is what was asked, `attachments` are the names of what went with it, `user` who asked. It `began` when
    an agent took it, or was asked then, where none did, and has `ended` with the `code` of an Answer and the sentence
    `reason`. `usage` is what this attempt had used of the `model`. With `decision` it went on behind a human's.
    `task` is Flame's: one that runs again is one attempt. Long texts are cut.
    """

    turn: str
    ended: int
    code: str
    reason: str
    question: str = ""
    attachments: list[str] = []
    user: str = ""
    began: int = 0
    task: str = ""
    decision: bool = False
    model: str = ""
    usage: Usage = Usage()

    @classmethod
    def of_question(
        cls, asked: Question, *, turn: str, task: str, began: int, ended: int, code: str, reason: str
    ) -> Failure:
        """That of a question which no agent has noted, with what is known of its task."""
        return cls(
            turn=turn,
            ended=ended,
            code=code,
            reason=reason,
            question=str(asked.question),
            attachments=attachment_names(asked.attachments),
            user=str(asked.user),
            began=began,
            task=task,
            decision=asked.decision is not None,
            model=str(asked.model),
        )

    @property
    def attempt(self) -> tuple[str, str]:
        """What tells it from the others of its session."""
        return self.task, self.turn


def attachment_names(attachments: object) -> list[str]:
    """The names of a question's attachments, whatever a program has sent as these."""
    found = attachments if isinstance(attachments, list) else []
    return [str(each.get("name", "")) for each in found if isinstance(each, dict)]


class Cache(Protocol):
    """The object cache, as far as failures need it; `flameagent.flame.cache.ObjectCache` is one."""

    def get(self, key: str, since: int = 0) -> Rows: ...
    def put_as(self, key: str, data: bytes) -> ObjectRef: ...
    def patch(self, key: str, data: bytes) -> int: ...
    def delete(self, prefix: str) -> None: ...


def failure_keys(application: str, session_id: str) -> list[str]:
    """The keys of the objects that a session's failures are in, where it has any."""
    return [f"{application}/{session_id}/{name}" for name in _NAMES]


def read_failures(get: Callable[[str], Rows], keys: Iterable[str]) -> list[Failure]:
    """The failures in these objects, the oldest first, each attempt once; `get` is a cache's. Raises `FlameError`."""
    found = [failure for key in keys for row in _rows(get, key) or () if (failure := _failure(row)) is not None]
    newest = {failure.attempt: failure for failure in sorted(found, key=lambda each: each.ended)}
    return sorted(newest.values(), key=lambda each: each.ended)


class FailureLog:
    """The failures of one session. `guard` surrounds each write, for whoever must not end the process inside one."""

    def __init__(
        self,
        cache: Cache,
        application: str,
        session_id: str,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._cache = cache
        self._keys = failure_keys(application, session_id)
        self._guard = guard

    def add(self, failure: Failure, until: float = float("inf")) -> None:
        """Add a failure; nothing is begun after the monotonic time `until`.

        Raises `FlameError`: then it may have been added, and may be added again.
        """
        row = encode(_bounded(failure))
        places = {key: _rows(self._cache.get, key) for key in self._keys}
        free = [key for key, rows in places.items() if rows is not None and len(rows) < _ROWS]
        if free:
            key = max(free, key=lambda each: _newest(places[each] or []))
        else:
            # Killed in between: the other one is full, and this one absent.
            absent = [key for key, rows in places.items() if rows is None]
            key = absent[0] if absent else min(self._keys, key=lambda each: _newest(places[each] or []))
            if not absent:
                _in_time(until)
                self._cache.delete(key)
                failpoint("failure: made room")
            _in_time(until)
            with self._guard():
                self._cache.put_as(key, b"")
                failpoint("failure: begun")
        _in_time(until)
        with self._guard():
            failpoint("failure: before")
            self._cache.patch(key, row)
            failpoint("failure: after")


def _rows(get: Callable[[str], Rows], key: str) -> list[bytes | None] | None:
    """The rows of an object; None where there is none."""
    try:
        return [row for _, row in get(key).patches]
    except NotFound:
        return None


def _failure(row: bytes | None) -> Failure | None:
    try:
        failure: Failure = decode(row or b"", Failure)
    except ValueError:
        return None
    return failure


def _newest(rows: list[bytes | None]) -> int:
    """When the newest of these failures was; 0 where none of them can be read."""
    return max((failure.ended for row in rows[-1:] if (failure := _failure(row))), default=0)


def _in_time(until: float) -> None:
    if time.monotonic() > until:
        raise Unreachable("The object cache did not answer in time.")


def _bounded(failure: Failure) -> Failure:
    return msgspec.structs.replace(
        failure,
        question=_cut(failure.question, _QUESTION),
        reason=_cut(failure.reason, _REASON),
        attachments=[_cut(name, _NAME) for name in failure.attachments[:_ATTACHMENTS]],
        user=_cut(failure.user, _NAME),
        turn=_cut(failure.turn, _NAME),
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
