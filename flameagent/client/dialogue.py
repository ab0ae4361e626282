"""A turn at the command line: asked, shown while it comes, decided on, interrupted.

Promises that what is shown is an answer or calls that wait, that Ctrl-C ends it at any moment with a sentence, and
that after every failure stands what to do next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from flameagent.client import approvals, interrupts, render
from flameagent.client.api import Client
from flameagent.client.asking import Human
from flameagent.client.errors import (
    ClientError,
    Interrupted,
    NoEngine,
    NoSuchSession,
    TimedOut,
    UnclearError,
    WaitingError,
)
from flameagent.client.live import Live
from flameagent.client.screen import Activity, Screen
from flameagent.client.stream import OnCall, OnText
from flameagent.client.turn import Reply, Turn

_TO_CANCEL = 2.0

_NOTHING = "Interrupted; nothing was asked."

Prepare = Callable[[Activity, OnText | None, OnCall | None], Turn]


class Dialogue:
    """One command's turns. `timeout` is in seconds, for each; `stream` shows answers while they come."""

    def __init__(self, screen: Screen, client: Client, *, timeout: float, stream: bool) -> None:
        self._screen = screen
        self._client = client
        self._timeout = timeout
        self._stream = stream and screen.shows

    def ask(self, message: str, session: str | None, prompt: str | None, model: str) -> bool:
        """Ask, and have the human at the terminal decide on calls that wait. False: one waits still.

        Raises `ClientError`.
        """
        prepare = partial(self._client.prepare, message, session, prompt, model, self._timeout)
        reply = self._hold(prepare)
        if self._screen.asks:
            reply = self._decided(reply, model)
            if reply.pending is not None:
                self._screen.notice(render.how_to_decide(reply.session_id))
        else:
            self._waiting(reply)
        return reply.pending is None

    def decide(
        self, session: str, calls: list[str], *, approve: bool, always: bool = False, reason: str = ""
    ) -> bool:
        """Decide on a session's calls that wait: those named, or all. False: others wait afterwards.

        Raises `ClientError`.
        """

        def prepare(activity: Activity, on_text: OnText | None, on_call: OnCall | None) -> Turn:
            activity("looking what waits")
            pending = self._client.pending(session)
            chosen = pending.chosen(calls)
            decision = approvals.decision(
                pending, chosen if approve else (), () if approve else chosen, reason, always
            )
            return self._client.prepare_decision(pending, decision, "", self._timeout, activity, on_text, on_call)

        reply = self._hold(prepare)
        self._waiting(reply)
        return reply.pending is None

    def _decided(self, reply: Reply, model: str) -> Reply:
        human = Human(self._screen)
        while reply.pending is not None:
            interrupts.raise_from_now_on()
            try:
                decision = human.decide(reply.pending)
            except (KeyboardInterrupt, EOFError):
                self._screen.text("")
                break
            finally:
                interrupts.leave_at_once()
            if decision is None:
                break
            prepare = partial(self._client.prepare_decision, reply.pending, decision, model, self._timeout)
            reply = self._hold(prepare)
        return reply

    def _hold(self, prepare: Prepare) -> Reply:
        """One task, from its beginning to what came of it, shown as far as it is an answer."""
        screen, live, turn = self._screen, Live(self._screen), None
        told = (live.text, live.call) if self._stream else (None, None)
        try:
            with screen.progress() as live.activity:
                interrupts.leave_at_once(lambda: _nothing_begun(screen))
                turn = prepare(live.activity, *told)
                interrupts.raise_from_now_on()
                turn.send()
                reply = turn.wait(live.activity)
            interrupts.leave_at_once()
        except KeyboardInterrupt:
            live.leave()
            raise self._interrupted(turn) from None
        except ClientError as error:
            interrupts.leave_at_once()
            live.leave()
            if turn is not None:
                self._after_failure(turn, error)
            raise
        if screen.as_json:
            screen.data(reply.as_json())
        elif reply.pending is None:
            live.answer(reply.answer)
            render.reply(screen, reply)
            screen.notice(render.how_to_go_on(reply.session_id))
        else:
            live.leave()
            if reply.note:
                screen.warning(reply.note)
        return reply

    def _waiting(self, reply: Reply) -> None:
        """What waits, where nobody can be asked."""
        if reply.pending is None or self._screen.as_json:
            return
        show = self._screen.warning if self._screen.quiet else self._screen.text
        for line in render.waiting(reply.pending):
            show(line)
        show = self._screen.warning if self._screen.quiet else self._screen.notice
        show(render.how_to_decide(reply.session_id))

    def _after_failure(self, turn: Turn, error: ClientError) -> None:
        """A turn that was asked and failed: its JSON, and what to do next."""
        look = f"{render.program()} history {turn.session_id}"
        if isinstance(error, NoEngine | TimedOut | UnclearError):
            error.advice = f"Look before asking again: {look}"
            return
        if isinstance(error, NoSuchSession):
            return
        if isinstance(error, WaitingError):
            error.advice = "\n".join([*render.calls(error.pending), render.how_to_decide(turn.session_id)])
        elif turn.question.decision is not None:
            error.advice = f"See what waits, and what may have run: {look}"
        else:
            error.advice = render.how_to_go_on(turn.session_id)
        if self._screen.as_json:
            self._screen.data(turn.failed(error))

    def _interrupted(self, turn: Turn | None) -> Interrupted:
        """After the first Ctrl-C: wait for a second one, which cancels the turn."""
        if turn is None:
            return Interrupted(_NOTHING)
        look = f"{render.program()} history {turn.session_id}"
        try:
            self._screen.warning("Interrupted; the turn goes on. Ctrl-C again within 2 s cancels it.")
            time.sleep(_TO_CANCEL)
        except KeyboardInterrupt:
            interrupts.ignore()
            try:
                said = "The turn was answered already."
                if turn.cancel():
                    said = "The turn was cancelled; nothing was added."
                    if turn.question.decision is not None:
                        said += " What was approved may have run."
            except ClientError as error:
                said = f"The turn could not be cancelled. {error}"
            return Interrupted(f"{said} See: {look}", session_id=turn.session_id)
        return Interrupted(f"The turn goes on. See it: {look}", session_id=turn.session_id)


def _nothing_begun(screen: Screen) -> None:
    screen.leave()
    screen.error(Interrupted(_NOTHING))
