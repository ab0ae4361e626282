"""What somebody is told of all turns that a client asks or follows: a server is, for its metrics."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from flameagent.apis import Question
from flameagent.client.errors import ClientError
from flameagent.client.events import Event
from flameagent.client.reply import Reply


class TurnWatch(Protocol):
    """It is told from any thread, more than once where several follow a turn, and must not raise."""

    def asked(self, session_id: str, question: Question) -> None:
        """A question, or a decision, was sent."""

    def told(self, session_id: str, question: Question, event: Event) -> None:
        """Somebody who follows its turn was told this."""

    def ended(self, session_id: str, question: Question, outcome: Reply | ClientError) -> None:
        """Somebody who follows its turn was told its end, as far as that is known."""


def watched(
    watch: TurnWatch, session_id: str, question: Question, events: Generator[Event, None, Reply]
) -> Generator[Event, None, Reply]:
    """The same events and reply, of which the watch is told."""
    try:
        while True:
            event = next(events)
            watch.told(session_id, question, event)
            yield event
    except StopIteration as end:
        reply: Reply = end.value
        watch.ended(session_id, question, reply)
        return reply
    except ClientError as error:
        watch.ended(session_id, question, error)
        raise
    finally:
        events.close()
