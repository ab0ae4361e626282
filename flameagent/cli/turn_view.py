"""One turn of a command or a chat, from the question to its end: asked, followed, decided on, interrupted.

Promises that what is shown is an answer or calls that wait, that Ctrl-C ends it at any moment with a sentence, and
that after every failure stands what to do next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from flameagent.cli.program import program
from flameagent.cli.terminal import render, signals
from flameagent.cli.terminal.approval_prompt import ApprovalPrompt
from flameagent.cli.terminal.display import TurnDisplay
from flameagent.cli.terminal.line_input import MARK, unseen
from flameagent.cli.terminal.screen import Screen
from flameagent.client import approvals
from flameagent.client.approvals import Pending
from flameagent.client.attachments import Attachment
from flameagent.client.client import Client
from flameagent.client.errors import (
    ClientError,
    Interrupted,
    NoEngine,
    NoSuchSession,
    OutputError,
    TimedOut,
    UnclearError,
    UsageError,
    WaitingError,
)
from flameagent.client.events import Listener, Progress
from flameagent.client.reply import Reply, failure_as_json
from flameagent.client.turn import Turn
from flameagent.outcomes import ADDED

_TO_CANCEL = 2.0
_TO_LEAVE = 5.0  # seconds

Prepare = Callable[[Listener | None], Turn]


class TurnView:
    """The turns of a command, or of a `chat`, which at a terminal goes on after each of them, however it ended.

    `timeout` is in seconds, for each; `context` are the data of its questions; `stream` shows answers while they
    come; `model` is asked by name, "" is that of the settings. `attached` goes with the next question. `left` is the
    turn that nobody waited for to its end, in a chat; it goes on.
    """

    def __init__(
        self,
        screen: Screen,
        client: Client,
        *,
        timeout: float,
        stream: bool,
        model: str = "",
        context: dict[str, Any] | None = None,
        chat: bool = False,
    ) -> None:
        self.left: Turn | None = None
        self.attached: list[Attachment] = []
        self._screen = screen
        self._client = client
        self._timeout = timeout
        self._stream = stream and screen.shows
        self.model = model
        self._context = context
        self._chat = chat
        self._stays = chat and screen.asks
        self._noted = ""
        # A chat is loaded to the end before anyone can ask, and Ctrl-C does not leave it.
        self._between_turns = signals.raise_from_now_on if self._stays else signals.leave_at_once

    def reach(self) -> None:
        """See that the engine answers; the embedded one is started. Raises `ClientError`."""
        display = TurnDisplay(self._screen)
        signals.leave_unasked(self._screen)
        with display.waiting():
            self._client.reach(display.doing)

    def ask(
        self,
        message: str,
        session: str | None,
        prompt: str | None = None,
        running: Literal["wait", "steer", "interrupt"] = "wait",
    ) -> Reply:
        """Ask, and have the human at the terminal decide on calls that wait; some may wait still.

        A turn that is `running` is waited for, given the message, or cancelled. Raises `ClientError`.
        """

        def prepare(listen: Listener | None) -> Turn:
            asked = message, session, prompt, self.model, self._timeout
            return self._client.prepare(*asked, listen, running, context=self._context, attachments=self.attached)

        try:
            reply = self._hold(prepare)
        except (TimedOut, UnclearError, Interrupted):  # it is asked; after others it is attached still
            self.attached = []
            raise
        self.attached = []
        return self._asked(reply)

    def attach(self, session: str) -> Reply:
        """Show the turn that runs in a session until its end, as `ask` does. Raises `UsageError` where none runs."""

        def prepare(_: Listener | None) -> Turn:
            turn = self._client.attach(session, timeout=self._timeout)
            self._screen.notice(f"{MARK}{turn.question.question}")
            return turn

        return self._asked(self._hold(prepare))

    def retry(self, session: str) -> Reply:
        """Take the session's last turn back and ask its question again, as `ask` asks. Raises `ClientError`."""
        return self._asked(self._hold(partial(self._client.prepare_retry, session, self.model, self._timeout)))

    def wait(self) -> Reply:
        """Wait for the turn that was left. Raises `ClientError`."""
        turn = self.left
        assert turn is not None
        return self._asked(self._hold(lambda _: turn))

    def cancel(self) -> str:
        """Cancel the turn that was left; what came of that, in a sentence."""
        turn, self.left = self.left, None
        assert turn is not None
        try:
            said = "The turn was answered already."
            if turn.cancel():
                said = "The turn was cancelled; nothing was added."
                if turn.question.decision is not None:
                    said += " What was approved may have run."
        except ClientError as error:
            self.left = turn
            said = f"The turn could not be cancelled. {error}"
        return said

    def settle(self, pending: Pending) -> bool:
        """Have the human at the terminal decide on calls that wait. False: some wait still. Raises `ClientError`."""
        decided = self._decided(pending)
        return decided is not None and decided.pending is None

    @property
    def asks(self) -> bool:
        """True where someone is there who can be asked to decide."""
        return self._screen.asks

    def ask_what_waits(self, session: str) -> Reply | None:
        """Have the human at the terminal decide on a session's calls that wait, one by one; None: on none of them.

        Raises `ClientError`.
        """
        return self._decided(self._client.pending(session))

    def decide(
        self, session: str, calls: list[str], *, approve: bool, always: bool = False, reason: str = ""
    ) -> Reply:
        """Decide on a session's calls that wait: those named, or all; others may wait afterwards.

        Raises `ClientError`.
        """

        def prepare(listen: Listener | None) -> Turn:
            if listen:
                listen(Progress("looking what waits"))
            pending = self._client.pending(session)
            chosen = pending.chosen(calls)
            if approve and not calls:
                self._screen.notice("\n".join(["Approved:", *render.calls(pending.calls, whole=True)]))
            decision = approvals.make_decision(
                pending, chosen if approve else (), () if approve else chosen, reason, always
            )
            return self._client.prepare_decision(pending, decision, self.model, self._timeout, listen)

        reply = self._hold(prepare)
        self._waiting(reply)
        return reply

    def _asked(self, reply: Reply) -> Reply:
        if reply.pending is None:
            return reply
        if not self._screen.asks:
            self._waiting(reply)
            return reply
        return self._decided(reply.pending) or reply

    def _decided(self, pending: Pending | None) -> Reply | None:
        """The reply to the human's decisions; None where they made none."""
        prompt, reply = ApprovalPrompt(self._screen), None
        while pending is not None:
            signals.raise_from_now_on()
            try:
                decision = prompt.decide(pending)
            except (KeyboardInterrupt, EOFError):
                self._screen.text("")
                decision = None
            finally:
                self._between_turns()
            if decision is None:
                if not self._stays:
                    self._screen.notice(render.how_to_decide(pending.session_id, pending.calls))
                break
            reply = self._hold(partial(self._client.prepare_decision, pending, decision, self.model, self._timeout))
            pending = reply.pending
        return reply

    def _hold(self, prepare: Prepare) -> Reply:
        """One task, from its beginning to what came of it, shown as far as it is an answer."""
        screen, display, turn = self._screen, TurnDisplay(self._screen), None
        listen = display.listener(answer=self._stream)
        try:
            with display.waiting(), signals.interruptible():
                if not self._stays:
                    signals.leave_unasked(screen)
                turn = prepare(listen)
                signals.raise_from_now_on()
                with unseen():
                    if turn.asked:
                        turn.prolong()
                    else:
                        turn.send()
                    reply = turn.wait(listen)
            self._between_turns()
        except KeyboardInterrupt:
            display.leave()
            raise self._interrupted(turn) from None
        except OutputError as error:  # in the middle of the answer
            self._between_turns()
            assert turn is not None
            left = UnclearError(f"The turn goes on. {error}", session_id=turn.session_id)
            self._after_failure(turn, left)
            self.left = turn
            raise left from error
        except ClientError as error:
            self._between_turns()
            display.leave()
            if turn is not None:
                self._after_failure(turn, error)
            raise
        self.left = None
        with _shown(reply):
            self._show(reply, display)
        return reply

    def _show(self, reply: Reply, display: TurnDisplay) -> None:
        screen = self._screen
        if screen.as_json:
            screen.data(reply.as_json())
        elif reply.pending is not None:
            display.leave()
            if reply.note:
                screen.warning(reply.note)
        else:
            display.answer(reply.answer)
            if screen.quiet and reply.not_taken:
                screen.warning(reply.not_taken)
            if not self._chat:
                render.reply(screen, reply, streamed=self._stream)
                screen.notice(render.how_to_go_on(reply.session_id))
            elif reply.note and reply.note != self._noted:
                self._noted = reply.note
                render.note(screen, reply)

    def _waiting(self, reply: Reply) -> None:
        """Show what waits, where nobody can be asked."""
        if reply.pending is None or self._screen.as_json:
            return
        show = self._screen.warning if self._screen.quiet else self._screen.text
        with _shown(reply):
            for line in render.waiting(reply.pending):
                show(line)
        show = self._screen.warning if self._screen.quiet else self._screen.notice
        show(render.how_to_decide(reply.session_id, reply.pending.calls))

    def _after_failure(self, turn: Turn, error: ClientError) -> None:
        """A turn that was asked and failed: its JSON, and what to do next."""
        self.left = turn if isinstance(error, TimedOut) else None
        look = f"{program()} history {turn.session_id}"
        if isinstance(error, NoEngine | TimedOut | UnclearError):
            error.advice = _HOW_TO_WAIT if self._stays and self.left else f"Look before asking again: {look}"
            return
        if isinstance(error, NoSuchSession | UsageError):
            return
        if isinstance(error, WaitingError):
            how = render.how_to_decide(turn.session_id, error.pending)
            error.advice = "\n".join([*render.calls(error.pending), how])
        elif turn.question.decision is not None:
            error.advice = f"See what waits, and what may have run: {look}"
        elif not self._stays:
            error.advice = render.how_to_go_on(turn.session_id)
        if self._screen.as_json:
            self._screen.data(failure_as_json(turn.session_id, turn.question.id, error))

    def _interrupted(self, turn: Turn | None) -> Interrupted:
        """After the first Ctrl-C: wait for a second one, which cancels the turn."""
        if turn is None:
            return Interrupted(signals.NOTHING)
        self.left = turn
        look = f"{program()} history {turn.session_id}"
        try:
            self._screen.warning("Interrupted; the turn goes on. Ctrl-C again within 2 s cancels it.")
            time.sleep(_TO_CANCEL)
        except KeyboardInterrupt:
            signals.ignore()
            said = self.cancel()
            return Interrupted(said if self._stays else f"{said} See: {look}", session_id=turn.session_id)
        if self._stays:
            return Interrupted(f"The turn goes on. {_HOW_TO_WAIT}", session_id=turn.session_id)
        left = Interrupted(f"The turn goes on. See it: {look}", session_id=turn.session_id)
        signals.leave_within(_TO_LEAVE, partial(self._screen.error, left))
        return left


_HOW_TO_WAIT = "/wait waits for its answer, /cancel cancels it."


@contextmanager
def _shown(reply: Reply) -> Iterator[None]:
    """Around the output of a turn: where it cannot be written, what became of the turn is said."""
    try:
        yield
    except OutputError as error:
        done, code = "The turn was answered", error.exit_code
        if reply.pending:
            done, code = "The turn waits for your decision", WaitingError.exit_code
        elif reply.turn:
            done, code = "The turn was added", ADDED
        told = OutputError(error.reason, done=done, session_id=reply.session_id, exit_code=code)
        told.advice = f"See it: {program()} history {reply.session_id}"
        raise told from error
