"""A turn while Flame goes away, loses answers and forgets."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from flameagent.apis import Answer, Decision, Question
from flameagent.client import errors, payloads, turn
from flameagent.client.events import Done, Failed, Progress, listener
from flameagent.client.question import check
from flameagent.client.reply import failure_as_json
from flameagent.client.turn import Turn
from flameagent.conversation.log import ConversationLog
from flameagent.conversation.records import Body, Call, DecisionBody, PendingBody, TurnBody
from flameagent.flame import NotFound, NotOpen, Unclear, Unreachable
from flameagent.flame.frontend import Session, Task, TaskState
from flamewire.limits import MESSAGE_LIMIT
from flamewire.object_ref import ObjectRef
from tests.support.memory_cache import MemoryCache

_QUESTION = Question("who?", "the-turn")
_CALL = {"id": "c-1", "tool": "forget", "arguments": '{"key": "city"}'}


class _Frontend:
    """A Flame with one session; each call first does what the test has in store for it."""

    def __init__(self) -> None:
        self.tasks_made: list[bytes] = []
        self.state = TaskState.SUCCEED
        self.output: bytes | None = None
        self.message = ""
        self.before: dict[str, list[Callable[[], None]]] = {}
        self.after: dict[str, list[Callable[[], None]]] = {}

    def _do(self, plan: dict[str, list[Callable[[], None]]], call: str) -> None:
        if plan.get(call):
            plan[call].pop(0)()

    def create_task(self, session_id: str, data: bytes) -> str:
        self._do(self.before, "create_task")
        self.tasks_made.append(data)
        self._do(self.after, "create_task")
        return str(len(self.tasks_made))

    def tasks(self, session_id: str) -> list[Task]:
        self._do(self.before, "tasks")
        return [self._task(number) for number in range(1, len(self.tasks_made) + 1)]

    def task(self, session_id: str, task_id: str) -> Task:
        self._do(self.before, "task")
        if not task_id or int(task_id) > len(self.tasks_made):
            raise NotFound("no such task")
        return self._task(int(task_id))

    def watch(self, session_id: str, task_id: str, timeout: float) -> Iterator[Task]:
        self._do(self.before, "watch")
        if task_id and int(task_id) <= len(self.tasks_made):
            yield self._task(int(task_id))

    def _task(self, number: int) -> Task:
        made = self.tasks_made[number - 1]
        return Task(str(number), "app-1", self.state, made, self.output, self.message)


class _Connection:
    def __init__(self, frontend: _Frontend, cache: MemoryCache, key: str) -> None:
        self.frontend = frontend
        self.reopened = 0
        self.generation = 0
        self._log = ConversationLog(cache, key)

    def reopen(self, generation: int) -> None:
        self.reopened += 1

    def log(self, session: Session) -> ConversationLog | None:
        return self._log if session.common_data else None


class _Stage:
    def __init__(self) -> None:
        from flameagent.apis import MyContext
        from flameagent.conversation import context

        self.cache = MemoryCache()
        self.key = self.cache.put("app/app-1", context.write(MyContext())).key
        self.frontend = _Frontend()
        self.connection = _Connection(self.frontend, self.cache, self.key)
        self.arranged = 0

    def turn(
        self, timeout: float = 5.0, *, context: bool = True, decision: Decision | None = None, named: bool = False
    ) -> Turn:
        data = ObjectRef("", self.key, 1).encode() if context else None
        session = Session("app-1", "app", True, 0, data, 0, 0)
        connection: Any = self.connection
        question = replace(_QUESTION, decision=decision)
        return Turn(connection, session, question, arrange=self._arrange, timeout=timeout, named=named)

    def answered(self, **fields: Any) -> None:
        self.frontend.output = pickle.dumps(Answer(**{"answer": "me", **fields}))

    def add(self, turn_id: str = "the-turn") -> None:
        body = TurnBody(turn_id, "who?", [{"role": "user", "content": "who?"}], {"answer": "me", "turn": 1, "new": 7})
        ConversationLog(self.cache, self.key).append(body)

    def append(self, body: Body) -> str:
        log = ConversationLog(self.cache, self.key)
        log.append(body)
        return log.conversation.last

    def waits(self) -> str:
        """The turn waits for a decision on one call; what it has to name."""
        return self.append(PendingBody("the-turn", "who?", [Call(**_CALL)], {"state": 1}, []))

    def _arrange(self) -> None:
        self.arranged += 1


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> _Stage:
    monkeypatch.setattr(turn, "_PAUSE", 0.0)
    monkeypatch.setattr(turn, "_LOOK_EVERY", 0.0)
    return _Stage()


def _raise(error: Exception) -> Callable[[], None]:
    def raising() -> None:
        raise error

    return raising


def test_a_question_whose_call_broke_off_before_it_arrived_is_sent_again(stage: _Stage) -> None:
    stage.answered()
    stage.frontend.before["create_task"] = [_raise(Unclear("gone")), _raise(Unclear("gone"))]
    asked = stage.turn()
    asked.send()
    assert asked.wait().answer == "me"
    assert [payloads.task_name(data) for data in stage.frontend.tasks_made] == ["the-turn"]


def test_a_question_whose_call_broke_off_after_it_arrived_is_not_sent_again(stage: _Stage) -> None:
    stage.answered()
    stage.frontend.after["create_task"] = [_raise(Unclear("gone"))]
    asked = stage.turn()
    asked.send()
    assert asked.wait().answer == "me"
    assert len(stage.frontend.tasks_made) == 1


def test_an_engine_that_goes_away_and_comes_back_is_made_ready_again(stage: _Stage) -> None:
    stage.answered()
    stage.frontend.before["watch"] = [_raise(Unreachable("gone"))] * 2
    stage.frontend.before["tasks"] = [_raise(Unreachable("still gone"))] * 2
    said: list[str] = []
    asked = stage.turn()
    asked.send()
    assert asked.wait(listener(said.append)).answer == "me"
    assert (stage.connection.reopened, stage.arranged, len(stage.frontend.tasks_made)) == (4, 4, 1)
    assert "the engine went away: waiting for it" in said


def test_an_engine_that_comes_back_without_the_task_is_asked_again(stage: _Stage) -> None:
    stage.answered()
    stage.frontend.before["watch"] = [stage.frontend.tasks_made.clear]
    asked = stage.turn()
    asked.send()
    assert asked.wait().answer == "me"
    assert len(stage.frontend.tasks_made) == 1


def test_a_turn_that_is_in_the_conversation_is_not_asked_again(stage: _Stage) -> None:
    stage.add()
    stage.frontend.before["watch"] = [stage.frontend.tasks_made.clear]
    asked = stage.turn()
    asked.send()
    reply = asked.wait()
    assert (reply.answer, reply.turn, [item["content"] for item in reply.added]) == ("me", 1, ["who?"])
    assert stage.frontend.tasks_made == []


def test_a_task_that_runs_for_ever_is_done_when_the_conversation_has_its_turn(stage: _Stage) -> None:
    stage.frontend.state = TaskState.RUNNING
    asked = stage.turn()
    asked.send()
    stage.add()
    assert asked.wait().answer == "me"


def test_a_task_that_failed_after_its_turn_was_added_is_answered(stage: _Stage) -> None:
    stage.frontend.state, stage.frontend.message = TaskState.FAILED, "instance died"
    stage.add()
    asked = stage.turn()
    asked.send()
    assert asked.wait().answer == "me"


def test_waiting_has_an_end(stage: _Stage) -> None:
    stage.frontend.state = TaskState.RUNNING
    asked = stage.turn(timeout=0.05)
    asked.send()
    with pytest.raises(errors.TimedOut, match=r"No answer within 0\.05 s"):
        asked.wait()


def test_waiting_for_an_engine_has_an_end(stage: _Stage) -> None:
    stage.frontend.before["create_task"] = [_raise(Unclear("gone"))] * 10_000_000
    with pytest.raises(errors.TimedOut):
        stage.turn(timeout=0.05).send()


def test_a_session_that_is_gone_is_said_so(stage: _Stage) -> None:
    asked = stage.turn()
    asked.send()
    stage.frontend.before["watch"] = [_raise(NotFound("gone"))]
    stage.frontend.before["tasks"] = [_raise(NotFound("gone"))]
    with pytest.raises(errors.NoSuchSession, match="is gone") as raised:
        asked.wait()
    assert raised.value.session_id == "app-1"


def test_a_session_that_is_closed_just_now_is_said_so(stage: _Stage) -> None:
    stage.frontend.before["create_task"] = [_raise(NotOpen("Session app-1 is not open"))]
    with pytest.raises(errors.SessionClosed):
        stage.turn().send()


@pytest.mark.parametrize(
    ("code", "raised", "exit_code", "said"),
    [
        ("model", errors.TurnFailed, 1, "No. Nothing was added."),
        ("tool", errors.TurnFailed, 1, "No. Nothing was added."),
        ("cancelled", errors.TurnFailed, 1, "No. Nothing was added."),
        ("", errors.TurnFailed, 1, "No. Nothing was added."),
        ("waiting", errors.WaitingError, 3, "No."),
        ("conflict", errors.ConflictError, 6, "No."),
        ("unclear", errors.UnclearError, 7, "No."),
        ("damaged", errors.DamagedError, 8, "No."),
    ],
)
def test_what_the_agent_says_went_wrong_is_raised(
    stage: _Stage, code: str, raised: type[errors.ClientError], exit_code: int, said: str
) -> None:
    stage.answered(answer="", error="No.", code=code)
    asked = stage.turn()
    asked.send()
    with pytest.raises(raised) as error:
        asked.wait()
    assert (str(error.value), error.value.exit_code) == (said, exit_code)
    assert error.value.code == (code or "failed")


@pytest.mark.parametrize(
    ("state", "message", "said"),
    [
        (TaskState.FAILED, "It may have been added", "It may have been added"),
        (TaskState.FAILED, "The agent died", "The agent died. Nothing was added."),
        (TaskState.FAILED, "", "Flame does not say why"),
        (TaskState.CANCELLED, "", "its session was closed"),
        (TaskState.SUCCEED, "", "not an apis.Answer"),
    ],
)
def test_a_task_without_an_answer_says_why(stage: _Stage, state: TaskState, message: str, said: str) -> None:
    stage.frontend.state, stage.frontend.message = state, message
    asked = stage.turn()
    asked.send()
    with pytest.raises(errors.TurnFailed, match=said):
        asked.wait()


def test_a_cancelled_turn_can_no_longer_be_added(stage: _Stage) -> None:
    asked = stage.turn()
    asked.send()
    assert asked.cancel()
    log = ConversationLog(stage.cache, stage.key)
    assert "the-turn" in log.refresh().cancelled


def test_a_turn_that_is_in_the_conversation_cannot_be_cancelled(stage: _Stage) -> None:
    asked = stage.turn()
    stage.add()
    assert not asked.cancel()
    with pytest.raises(errors.ClientError, match="keeps no history"):
        stage.turn(context=False).cancel()


def test_a_session_without_context_is_answered_without_history(stage: _Stage) -> None:
    stage.answered(note="without memory")
    asked = stage.turn(context=False)
    asked.send()
    reply = asked.wait()
    assert (reply.answer, reply.note, reply.conversation) == ("me", "without memory", None)


@pytest.mark.parametrize("question", ["", "  \n", "x" * MESSAGE_LIMIT, "é" * (MESSAGE_LIMIT // 2)])
def test_a_question_that_cannot_be_asked_is_refused(question: str) -> None:
    with pytest.raises(errors.UsageError):
        check(question)


def test_lone_surrogates_are_replaced_and_pairs_are_joined() -> None:
    assert check("a\udce9b") == "a\ufffdb"
    assert check("\ud83d\udd25") == "\U0001f525"


def test_a_turn_that_waits_is_told_with_its_calls(stage: _Stage) -> None:
    stage.answered(answer="", code="waiting", pending=[_CALL], on="record", note="may have run")
    asked = stage.turn()
    asked.send()
    reply = asked.wait()
    assert reply.pending is not None
    assert (reply.pending.on, reply.pending.turn_id, reply.pending.question) == ("record", "the-turn", "who?")
    assert {key: reply.as_json()[key] for key in ("status", "turn", "answer", "pending", "note", "added")} == {
        "status": "awaiting_approval",
        "turn": 0,
        "answer": "",
        "pending": [_CALL],
        "note": "may have run",
        "added": [],
    }


def test_a_question_that_is_refused_because_a_call_waits_names_the_call(stage: _Stage) -> None:
    stage.answered(answer="", code="waiting", error="Decide on it first.", pending=[_CALL], on="record")
    asked = stage.turn()
    asked.send()
    with pytest.raises(errors.WaitingError) as raised:
        asked.wait()
    assert raised.value.pending == (Call(**_CALL),)
    failed = failure_as_json("app-1", "the-turn", raised.value)
    assert (failed["status"], failed["pending"]) == ("awaiting_approval", [_CALL])


def test_a_task_that_runs_for_ever_is_done_when_its_turn_waits_in_the_conversation(stage: _Stage) -> None:
    stage.frontend.state = TaskState.RUNNING
    asked = stage.turn()
    asked.send()
    on = stage.waits()
    reply = asked.wait()
    assert reply.pending is not None and reply.pending.on == on and reply.pending.calls == (Call(**_CALL),)


def test_a_decision_is_not_taken_for_the_question_that_it_decides_on(stage: _Stage) -> None:
    stage.frontend.tasks_made.append(payloads.write(_QUESTION))
    stage.frontend.before["create_task"] = [_raise(Unclear("gone"))]
    stage.answered()
    decided = stage.turn(decision=Decision("d-1", "record"))
    decided.send()
    assert decided.wait().answer == "me"
    assert [payloads.task_name(data) for data in stage.frontend.tasks_made] == ["the-turn", "d-1"]


def test_a_decision_that_broke_off_after_it_arrived_is_not_sent_again(stage: _Stage) -> None:
    stage.answered()
    stage.frontend.after["create_task"] = [_raise(Unclear("gone"))]
    decided = stage.turn(decision=Decision("d-1", "record"))
    decided.send()
    assert decided.wait().answer == "me"
    assert len(stage.frontend.tasks_made) == 1


def test_an_answer_that_another_decision_brought_is_not_this_ones(stage: _Stage) -> None:
    stage.frontend.state, stage.frontend.message = TaskState.FAILED, "instance died"
    on = stage.waits()
    stage.append(DecisionBody("another", decides_on=on, approved=["c-1"]))
    stage.add()
    decided = stage.turn(decision=Decision("d-1", on))
    decided.send()
    with pytest.raises(errors.TurnFailed, match="instance died"):
        decided.wait()
    mine = stage.turn(decision=Decision("another", on))
    mine.send()
    assert mine.wait().answer == "me"


def test_a_decision_that_was_interrupted_is_no_outcome(stage: _Stage) -> None:
    stage.frontend.state, stage.frontend.message = TaskState.FAILED, "instance died"
    on = stage.waits()
    stage.append(DecisionBody("d-1", decides_on=on, approved=["c-1"]))
    decided = stage.turn(decision=Decision("d-1", on))
    decided.send()
    with pytest.raises(errors.TurnFailed, match="instance died"):
        decided.wait()


def test_a_decision_after_which_the_turn_waits_again_is_told_so(stage: _Stage) -> None:
    stage.frontend.state = TaskState.RUNNING
    on = stage.waits()
    stage.append(DecisionBody("d-1", decides_on=on, approved=["c-1"]))
    again = stage.waits()
    decided = stage.turn(decision=Decision("d-1", on))
    decided.send()
    reply = decided.wait()
    assert reply.pending is not None and reply.pending.on == again


def test_the_last_event_is_the_reply_again_and_again(stage: _Stage) -> None:
    stage.answered()
    asked = stage.turn()
    assert [type(event) for event in asked] == [Progress, Done]
    (end,) = asked
    assert isinstance(end, Done) and end.reply == asked.reply() and end.reply.answer == "me"
    assert len(stage.frontend.tasks_made) == 1, "it is sent when somebody watches"


def test_a_turn_that_fails_has_its_error_as_the_last_event(stage: _Stage) -> None:
    stage.answered(answer="", error="No.", code="model")
    asked = stage.turn().send()
    *_, end = asked
    assert isinstance(end, Failed) and str(end.error) == "No. Nothing was added."
    with pytest.raises(errors.TurnFailed):
        asked.reply()


def test_who_stops_watching_may_watch_on(stage: _Stage) -> None:
    stage.frontend.state = TaskState.RUNNING
    asked = stage.turn().send()
    for event in asked:
        assert event == Progress("thinking")
        break
    stage.frontend.state = TaskState.SUCCEED
    stage.answered()
    assert asked.reply().answer == "me"


def test_a_thread_that_nobody_waits_for_stops_watching(stage: _Stage) -> None:
    stage.frontend.state = TaskState.RUNNING
    asked = stage.turn().send()
    stop = threading.Event()
    stop.set()
    token = turn.given_up.set(stop)
    try:
        assert list(asked) == [Progress("thinking")]
        with pytest.raises(turn.GivenUp):
            asked.wait()
    finally:
        turn.given_up.reset(token)
    assert len(stage.frontend.tasks_made) == 1


def test_a_turn_that_its_caller_names_is_found_in_place_of_being_asked_twice(stage: _Stage) -> None:
    stage.frontend.tasks_made.append(payloads.write(_QUESTION))
    stage.answered()
    assert stage.turn(named=True).send().reply().answer == "me"
    assert len(stage.frontend.tasks_made) == 1


def test_a_named_turn_that_failed_is_asked_anew(stage: _Stage) -> None:
    stage.frontend.tasks_made.append(payloads.write(_QUESTION))
    stage.answered(answer="", error="No.", code="model")
    stage.turn(named=True).send()
    assert len(stage.frontend.tasks_made) == 2


def test_a_named_turn_with_another_question_is_a_conflict(stage: _Stage) -> None:
    stage.frontend.tasks_made.append(payloads.write(replace(_QUESTION, question="whom?")))
    with pytest.raises(errors.ConflictError, match="another question"):
        stage.turn(named=True).send()
    assert len(stage.frontend.tasks_made) == 1


def test_a_message_that_a_turn_has_taken_in_is_answered_with_it(stage: _Stage) -> None:
    stage.frontend.state = TaskState.RUNNING
    asked = stage.turn()
    asked.question.steer = "running"
    items = [{"role": "user", "content": "what?"}, {"role": "user", "content": "who?"}]
    stage.append(
        TurnBody(
            "running", "what?", items, {"answer": "that", "turn": 1, "turn_id": "running", "steered": ["the-turn"]}
        )
    )
    reply = asked.send().reply()
    assert (reply.turn_id, reply.answer, reply.steered, reply.added) == ("running", "that", ["the-turn"], items)
    assert reply.note == "The turn that ran has taken the message in."
    assert not asked.cancel()


def test_a_turn_that_waits_has_its_messages(stage: _Stage) -> None:
    stage.frontend.state = TaskState.RUNNING
    asked = stage.turn()
    stage.append(PendingBody("running", "what?", [Call(**_CALL)], {"state": 1}, [], steered=["the-turn"]))
    reply = asked.send().reply()
    assert reply.pending is not None and reply.pending.turn_id == reply.turn_id == "running"
