"""The trace of one task in the worker: what it waited for, what it did, and how it ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flameagent import tracing
from flameagent.apis import Answer, Question
from flameagent.model_choice import OPENAI_URL, Choice
from flameagent.redact import one_line, redact

if TYPE_CHECKING:
    from flameagent.service.process.messages import Invoke
    from flameagent.tracing import Span

SERVICE = "flame-agent"


def begin(task: Invoke, question: Question, session_id: str, turn_id: str, application: str) -> TurnTrace | None:
    """The trace of a task that has come; None where nothing is traced."""
    tracing.start(SERVICE, _say)
    if (recorder := tracing.recorder()) is None:
        return None
    if "agents" in sys.modules:
        from flameagent.service.sdk_spans import SPANS

        SPANS.record_to(recorder)
    return TurnTrace(task, question, session_id, turn_id, application)


def trouble() -> str:
    """What is wrong with how tracing is asked for, for whoever asks; "" where nothing is."""
    if not os.environ.get(tracing.SETTING, "").strip():
        return ""
    from flameagent.tracing import modes

    return modes.trouble(os.environ)


class TurnTrace:
    """The spans of a task, below the one that its question names, or that the turn had when it began to wait."""

    def __init__(self, task: Invoke, question: Question, session_id: str, turn_id: str, application: str) -> None:
        self._task = task
        self._question = question
        self._began = tracing.now()
        self._about = {
            "session.id": session_id,
            "gen_ai.conversation.id": session_id,
            "flame.turn.id": turn_id,
            "flame.application": application,
            "flame.task.id": task.task_id,
            "flame.attempt": 2 if task.died else 1,
        }
        self._key = f"{session_id}/{turn_id}/{task.task_id}"
        self._span: Span | None = None

    @property
    def traceparent(self) -> str:
        """What the turn's later parts are to be below: whoever asked, or this."""
        return self._question.traceparent or self._of_turn("").traceparent

    @contextmanager
    def running(self, waiting: str = "") -> Iterator[None]:
        """While the turn runs; its conversation has been read. `waiting` is the traceparent of one that goes on."""
        span = self._of_turn(waiting)
        tracing.note("read conversation", self._began, tracing.now(), of=span)
        with span.entered():
            yield

    def end(self, answer: Answer) -> None:
        """It has ended with this answer."""
        span = self._of_turn("")
        used = answer.usage or {}
        span.set(
            {
                "flame.turn.number": answer.turn or None,
                "flame.outcome": answer.code or "answered",
                "gen_ai.response.model": answer.model,
                "gen_ai.agent.name": answer.agent,
                "gen_ai.usage.input_tokens": used.get("input_tokens"),
                "gen_ai.usage.output_tokens": used.get("output_tokens"),
            }
        )
        if answer.error:
            span.fail(answer.code or "failed", answer.error)
        span.end()

    def _key_of(self, attempt: int) -> str:
        return f"{self._key}/{attempt}/{self._question.traceparent}"

    def _of_turn(self, waiting: str) -> Span:
        if self._span is None:
            question, task = self._question, self._task
            parent = question.traceparent or waiting
            received = int(task.received * 1e9) or self._began
            name = "go on" if question.decision else "turn"
            key = self._key_of(2 if task.died else 1)
            self._span = tracing.begin(name, self._about, kind="server", parent=parent, start=received, key=key)
            if question.asked:
                sent = question.asked * 1_000_000
                tracing.note("wait for an instance", min(sent, received), received, of=self._span)
            ready = received
            if task.died:
                began, ready = int(task.began * 1e9), int(task.ended * 1e9)
                # The span that the worker which was killed has not ended: what it has sent belongs to it.
                lost = {"flame.attempt": 1}
                key = self._key_of(1)
                tracing.note("lost attempt", began, ready, lost, of=self._span, error=task.died, key=key)
            tracing.note("wait for a worker", ready, max(ready, self._began), of=self._span)
        return self._span


def describe_request(choice: Choice) -> None:
    """Say of the call of a model that runs whom it asks."""
    if tracing.recorder() is None:
        return
    address = urlsplit(choice.base_url or OPENAI_URL)
    provider = "openai_compatible" if choice.provider == "compatible" else choice.provider
    tracing.annotate(
        {
            "gen_ai.request.model": choice.name,
            "gen_ai.provider.name": provider,
            "server.address": address.hostname,
            "server.port": address.port,
        }
    )


def _say(sentence: str) -> None:
    print(one_line(redact(sentence), 500), file=sys.stderr, flush=True)
