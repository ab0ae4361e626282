"""`FlameInstance`: what a service's module makes, decorates its entrypoint with, and runs.

Promises that a turn is in the conversation once or not at all: the entrypoint runs with a session that
stages, its Answer and everything that was added become one record, and what goes wrong becomes a
sentence in the Answer with nothing added.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import flamepy.service
import msgspec
from flamepy.core.service import ApplicationContext, SessionContext
from msgspec import to_builtins

from flameagent import tracing, wire
from flameagent.apis import Answer, Decision, Question
from flameagent.conversation import (
    WINDOW,
    AlreadyDecidedError,
    Call,
    CancelledError,
    ConversationError,
    ConversationLog,
    FlameSession,
    NotOwnerError,
    StagedTurn,
    Usage,
    WaitingError,
    waiting_answer,
)
from flameagent.conversation.failures import Failure, FailureLog, failure_keys, read_failures
from flameagent.conversation.stream_key import stream_key
from flameagent.flame import Endpoints, FlameError
from flameagent.flame.cache import ObjectCache
from flameagent.flame.frontend import Frontend
from flameagent.model_choice import is_window
from flameagent.service import garbage, metrics, replaying, turn_trace
from flameagent.service.clock import Clock
from flameagent.service.containment import contain
from flameagent.service.failure_notes import FailureNotes
from flameagent.service.failures import failed_answer
from flameagent.service.person import Person
from flameagent.service.spending import Limits, Spending
from flameagent.service.steering import Steering
from flameagent.service.stream import Stream, forget
from flameagent.service.summaries import Summaries, Summarize
from flameagent.service.turn import RunningTurn, running
from flameagent.text import all_well_formed
from flamewire.object_ref import ObjectRef

if TYPE_CHECKING:
    from flameagent.service.process.messages import Enter, Invoke
    from flameagent.service.turn_trace import TurnTrace

Entrypoint = TypeVar("Entrypoint", bound=Callable[..., Any])

_LOOK_FOR_CANCEL = 1.0
_ANSWER_LIMIT = 3_500_000  # Flame takes 4 MB in a message


class FlameInstance(flamepy.service.FlameInstance):  # type: ignore[misc]
    """A Flame service whose sessions are conversations.

    ::

        instance = FlameInstance()

        @instance.entrypoint
        async def ask(question: Question) -> Answer:
            return await instance.answer(agent, question)

        if __name__ == "__main__":
            instance.run()

    An entrypoint that takes a `Question` and returns an `Answer` is a turn. Any other runs as flamepy would run
    it, with `context()` and `update_context()` as there.

    `summarize` makes the summaries of what left the model's window, in place of the model that answers: it is given
    the summary before ("" for the first) and what was said since, as text, and returns the summary of both.
    """

    def __init__(self, *, summarize: Summarize | None = None) -> None:
        super().__init__()
        self.guard: Callable[[], AbstractContextManager[None]] = nullcontext
        self._session_id = ""
        self._cache: ObjectCache | None = None
        self._log: ConversationLog | None = None
        self._session: FlameSession | None = None
        self._person: Person | None = None
        self._summarize = summarize
        self._summaries: Summaries | None = None
        self._frontend: Frontend | None = None
        self._endpoints = Endpoints("", "")
        self._stream: Stream | None = None
        self._streams: set[str] | None = None  # keys, of the turns since the last that began
        self._forgetting: set[asyncio.Task[None]] = set()
        self._failures: FailureNotes | None = None
        self._ran: RunningTurn | None = None  # the turn that runs, as far as it has come
        self._clock = Clock()
        self._application = ""

    def entrypoint(self, func: Entrypoint) -> Entrypoint:
        """Decorate the function that answers; it takes one parameter, or none. Returns it unchanged."""
        super().entrypoint(func)
        return func

    @property
    def session(self) -> FlameSession | None:
        """The conversation, for `Runner.run(…, session=instance.session)`; None for a session without context."""
        return self._session

    async def answer(self, agent: Any, question: Question, *, sticky: bool = False, **options: Any) -> Answer:
        """Run the agent on the question, in the session's conversation; `options` go to `Runner.run`.

        These are its `max_turns`, `hooks`, `run_config` and `context`; without a context, tools see the data of the
        question, a dict. With `sticky` a handoff sticks: the agent that answered last goes on, if this one can still
        hand over to it. The session's prompt, if it has one, takes the place of the agent's instructions, and the
        settings' model that of an agent without one; neither changes the agent. Raises what `Runner.run` raises.
        """
        from flameagent.service import run  # brings the Agents SDK: seconds, if the module has not

        return await run.answer(agent, question, running.get(), self._stream, options, sticky=sticky)

    async def input(self, question: Question) -> str | list[Any]:
        """What a run of one's own begins with: the question, or with attachments a message that has them.

        For `Runner.run(agent, await instance.input(question), session=instance.session)`. Raises `ConversationError`
        where an attachment is not there.
        """
        from flameagent.service.attachments import question_input

        return await question_input(question, running.get())

    def run(self) -> NoReturn:
        """Become the instance of this module: the same as `python -m flameagent.service MODULE`."""
        module = getattr(self._entrypoint, "__module__", "__main__")
        file = Path(inspect.getfile(sys.modules[module])).resolve()
        module = file.stem if module == "__main__" else module
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(file.parent), *_paths()])}
        os.execve(sys.executable, [sys.executable, "-m", "flameagent.service", module], environ)  # noqa: S606

    def enter(self, session: Enter) -> None:
        """Begin with a session; what the worker calls, once."""
        self._session_id, self._application = session.session_id, session.application
        application = ApplicationContext(name=session.application)
        self.on_session_enter(SessionContext(session.common_data, session.session_id, application))
        self._session = None
        if session.common_data is None:
            return
        try:
            reference = ObjectRef.decode(session.common_data)
        except ValueError as error:
            raise FlameError(str(error)) from error
        self._endpoints = Endpoints.of_instance(os.environ, reference.endpoint)
        self._cache = self._connect()
        self._log = ConversationLog(self._cache, reference.key, guard=self._guarded)
        self._session = FlameSession(session.session_id, self._log, window=_window(), refers=True)
        self._person = Person(self._application, self._session, self._cache, self._guarded, self._reached)
        self._summaries = Summaries(self._session, self._summarize)
        failures = FailureLog(self._cache, self._application, self._session_id, self._guarded)
        self._failures = FailureNotes(failures)

    def _connect(self) -> ObjectCache:
        return ObjectCache(self._endpoints)

    async def invoke(self, task: Invoke) -> bytes | None:
        """Run one task; the pickled output. What the worker calls."""
        asked = wire.read_any(task.input) if task.input is not None else None
        if not isinstance(asked, Question):
            output = await self._call(asked)
            return None if output is None else wire.write(output)
        asked = _well_formed(asked)
        self._stream = Stream(self._cache, asked.stream, self._guarded) if self._cache and asked.stream else None
        if self._stream and self._streams is not None:
            self._streams.add(self._stream.key)
        turn_id, started = asked.id or f"{self._session_id}/{task.task_id}", time.perf_counter()
        self._clock, self._ran = Clock(asked.asked), None
        trace = turn_trace.begin(task, asked, self._session_id, turn_id, self._application)
        answer = _well_formed(await self._turn(asked, turn_id, task.task_id, trace))
        if trace is not None:
            trace.end(answer)
        if self._ran is not None or answer.error or self._session is None:  # else its answer was known
            metrics.turn_ended(answer, time.perf_counter() - started, self._log.appends if self._log else None)
        if self._failures is not None:
            await self._failures.turn_ended(asked, answer, turn_id, task.task_id, self._clock.began, self._ran)
        if len(answer.answer) > _ANSWER_LIMIT // 8:
            _make_fit(answer)
        return wire.write(answer)

    @property
    def has_unwritten(self) -> bool:
        """True while this process alone knows of a turn that failed."""
        return self._failures is not None and self._failures.unwritten

    def _guarded(self) -> AbstractContextManager[None]:
        return self.guard()

    async def messages(self) -> list[str]:
        """The messages that have come for the turn that runs since the last call (`Client.steer`), in their order.

        For who calls `Runner.run` themselves: add them to the session. The turn's record lists them, and they are
        answered with it. `answer` takes them by itself.
        """
        turn = running.get()
        found = await turn.steering.look() if turn else []
        if turn:
            turn.staged.steered += [message.id for message in found]
        return [message.text for message in found]

    def _reached(self) -> Frontend:
        """Flame's frontend; asked only while a turn runs for longer than others, and for a memory that is gone."""
        self._frontend = self._frontend or Frontend(self._endpoints)
        return self._frontend

    def _forget_streams(self, turn_id: str) -> None:
        """Delete the objects of the turns before this one, beside what else is done."""
        assert self._cache is not None and self._session is not None
        old = self._streams
        if old is None:  # another process ran the last turn
            last = self._session.last_turn
            old = {stream_key(self._application, self._session_id, last)} if last else set()
        own = {self._stream.key} if self._stream else set()
        self._streams = own
        if gone := old - own - {stream_key(self._application, self._session_id, turn_id)}:
            task = asyncio.create_task(forget(self._cache, gone))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    async def _turn(self, question: Question, turn_id: str, task_id: str, trace: TurnTrace | None) -> Answer:
        with ExitStack() as inside:
            return await self._run_turn(question, turn_id, task_id, trace, inside)

    async def _run_turn(
        self, question: Question, turn_id: str, task_id: str, trace: TurnTrace | None, inside: ExitStack
    ) -> Answer:
        try:
            if self._session is None:
                if trace is not None:
                    inside.enter_context(trace.running())
                answer = await self._asked(question)
                answer.note = answer.note or "This session has no context: it was answered without memory."
                return answer
            assert self._person is not None and self._summaries is not None
            self._person.expect(question)
            if (known := await self._known(self._session, turn_id, question)) is not None:
                return known
            replay = self._session.state.replay
            replaying.begin(replay)
            if replay is not None:
                question = replace(question, memory="")
                if question.decision is not None:
                    raise ConversationError("This session is a replay: nobody decides on what waits in it.")
            await self._person.begin(question)
            on = self._decides_on(self._session, question.decision) if question.decision else ""
            async with self._session.turn(turn_id, question.question, resume=on, read=False) as turn:
                if turn.resumed is None:
                    turn.user, turn.context = question.user, question.context or {}
                if trace is not None:
                    inside.enter_context(trace.running(turn.traceparent))
                    turn.traceparent = turn.traceparent or trace.traceparent
                garbage.expect(self._session.shown_items)
                self._forget_streams(turn.id)
                steering = Steering(self._reached, self._session_id, task_id, turn.id)
                now = self._ran = RunningTurn(self._session, turn, steering, self._person, self._summaries)
                now.spending = await self._spending(question, turn)
                now.clock, self._clock.before = self._clock, turn.timing
                token = running.set(now)
                try:
                    answer = await self._unless_cancelled(turn.id, question)
                finally:
                    running.reset(token)
                if answer.error:
                    raise _Unanswered(answer)
                wrong = turn_trace.trouble()
                notes = answer.note, self._person.trouble, self._summaries.note(turn), wrong, *now.notes
                answer.note = " ".join(filter(None, notes))
                turn.answer, turn.model = _well_formed(answer), answer.model
                turn.usage = Usage.of(answer.usage) if answer.usage else turn.usage
                turn.timing = now.clock.timing(stops=turn.state is not None)
                _make_well_formed(turn)
                self._person.read_ahead()
            with tracing.span("remember turn") if self._person.memory is not None else nullcontext():
                await self._person.finish()
            if turn.calls and self._stream:
                await self._stream.tell(approval=to_builtins(turn.calls))
            self._summaries.begin()
            return turn.answer
        except _Unanswered as unanswered:
            return unanswered.answer
        except Exception as error:
            return failed_answer(error, question)

    async def _spending(self, question: Question, turn: StagedTurn) -> Spending:
        """What the turn has used, and may use. Raises `ConversationError`."""
        assert self._session is not None
        spending = Spending.of(question.budget, turn.usage, turn.model, Limits.of(os.environ))
        if spending.limits.of_session:
            failures = await asyncio.to_thread(self._read_failures)
            spending.begin_behind(await self._session.spent(failures))
        return spending

    def _read_failures(self) -> list[Failure]:
        assert self._cache is not None
        return read_failures(self._cache.get, failure_keys(self._application, self._session_id))

    async def _known(self, session: FlameSession, turn_id: str, question: Question) -> Answer | None:
        """The answer that the conversation has already: nothing is asked or decided twice."""
        stored = await session.stored(turn_id, question.question)
        decision = question.decision
        if decision is None and session.owner not in ("", question.user):
            raise NotOwnerError
        if decision is not None and not session.has_decided(decision.id):
            if stored is not None:
                raise AlreadyDecidedError
            return None
        if stored is not None:
            return stored
        waiting = session.waiting
        if waiting is None:
            return None
        if decision is not None and self._decides_on(session, decision) == waiting.record_id:
            return None
        answer = waiting_answer(waiting)
        if decision is None and turn_id not in (waiting.turn_id, *waiting.pending.steered):
            answer.error = str(WaitingError())
        return answer

    def _decides_on(self, session: FlameSession, decision: Decision) -> str:
        """The record that a decision decides on: its own, where it is recorded and the turn can simply go on."""
        from flameagent.service.approvals import goes_on

        waiting = session.waiting
        return waiting.record_id if waiting is not None and goes_on(waiting, decision) else decision.on

    async def _unless_cancelled(self, turn_id: str, question: Question) -> Answer:
        asked = asyncio.ensure_future(self._asked(question))
        try:
            while not (await asyncio.wait({asked}, timeout=_LOOK_FOR_CANCEL))[0]:
                if await self._is_cancelled(turn_id):
                    raise CancelledError
            return asked.result()
        finally:
            if not asked.done():
                asked.cancel()
                await asyncio.wait({asked})

    async def _is_cancelled(self, turn_id: str) -> bool:
        assert self._log is not None
        try:
            return await asyncio.to_thread(self._log.is_cancelled, turn_id)
        except (FlameError, ConversationError):
            return False  # the cache is away: the append will tell

    async def _asked(self, question: Question) -> Answer:
        if (turn := running.get()) is not None:
            await turn.summaries.ready(turn.staged)
        returned = await contain(self._call(question))
        answer = wire.adopt(returned, Answer)
        if answer is None:
            raise TypeError(f"the entrypoint returned {type(returned).__name__}, not an Answer")
        return answer

    async def _call(self, asked: Any) -> Any:
        if self._entrypoint is None:
            raise TypeError("the module has no entrypoint: decorate a function with @instance.entrypoint")
        arguments = () if self._parameter is None else (asked,)
        if inspect.iscoroutinefunction(self._entrypoint):
            return await self._entrypoint(*arguments)
        return await asyncio.to_thread(self._entrypoint, *arguments)


_Message = TypeVar("_Message", Question, Answer, Decision)


def _well_formed(message: _Message) -> _Message:
    """The same with well-formed texts; a program may ask with anything."""
    texts = {field.name: all_well_formed(getattr(message, field.name)) for field in fields(message)}
    if isinstance(decision := texts.get("decision"), Decision):
        texts["decision"] = _well_formed(decision)
    return replace(message, **texts)


def _make_fit(answer: Answer) -> None:
    """Leave out of a long answer what Flame does not take in one message, and say so."""
    size = len(answer.answer.encode())
    if answer.output_type and 2 * size > _ANSWER_LIMIT:  # the value of an output type is as large as its text
        answer.output = None
    if size > _ANSWER_LIMIT:
        answer.answer = answer.answer.encode()[:_ANSWER_LIMIT].decode(errors="ignore")
        answer.note = "The answer is too long for Flame and was cut here; the history has all of it."


def _make_well_formed(turn: StagedTurn) -> None:
    """Make well-formed what a turn adds: tools and an agent's own model give text that no reading has passed."""
    turn.items, turn.facts = all_well_formed(turn.items), all_well_formed(turn.facts)
    turn.state, turn.own_facts = all_well_formed(turn.state), all_well_formed(turn.own_facts)
    turn.calls = [Call(**all_well_formed(msgspec.structs.asdict(call))) for call in turn.calls]


class _Unanswered(Exception):
    """The entrypoint returned an error: leave the turn without adding anything."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.error)
        self.answer = answer


def _window() -> int | None:
    """The number of items that the model sees: `AGENT_HISTORY`, or None for `all`."""
    setting = os.environ.get("AGENT_HISTORY", "").strip()
    if setting == "all":
        return None
    return int(setting) if is_window(setting) else WINDOW


def _paths() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
