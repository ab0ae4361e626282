"""An evaluation: a folder of conversations, whose questions are asked again, and what is expected of the answers.

Promises that all files are read and found right before anything is asked, and that an expectation which could not be
looked at is an error, never one that holds.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NoReturn

from msgspec.structs import replace

from flameagent import files
from flameagent.client.agent_connection import AgentConnection
from flameagent.client.errors import ClientError, NoEngine, NotRegistered, UsageError
from flameagent.client.replay import Again, Beginning, RecordedTurn, without_permissions
from flameagent.conversation import EditBody
from flameagent.conversation.attachments import AttachmentGone
from flameagent.conversation.replayed import NOT_RUN, arguments_value
from flameagent.transcript import document
from flameagent.trying.comparison import Asking, Compared, How
from flameagent.trying.expectations import ENDING, Expectation, ExpectedCall, ExpectedTurn, expectations, read
from flameagent.trying.judge import Judge, JudgeError

Outcome = Literal["passed", "failed", "error"]
_SHOWN = 300  # characters of what was there instead


class FileRecording:
    """The conversation in a file that was exported."""

    def __init__(self, exported: document.Exported) -> None:
        self._exported = exported
        self._edit: EditBody = exported.edit()
        self.session_id = exported.session_id

    @cached_property
    def turns(self) -> list[RecordedTurn]:
        """Its turns, in their order."""
        return [RecordedTurn(block.turn, block.items) for block in self._edit.blocks if block.turn is not None]

    @cached_property
    def _data(self) -> Mapping[str, bytes]:
        return self._exported.data()

    def begin(self, number: int) -> Beginning:
        """What a session begins with in which the turn of that number is asked again."""
        blocks = self._edit.blocks
        place = next(at for at, block in enumerate(blocks) if block.turn is not None and block.turn.number == number)
        return Beginning(without_permissions(replace(self._edit, blocks=blocks[:place])), self._exported.prompt)

    def attachment(self, sha256: str) -> bytes:
        """The bytes of an attachment. Raises `AttachmentGone`."""
        try:
            return self._data[sha256]
        except KeyError:
            raise AttachmentGone(sha256) from None


@dataclass(frozen=True)
class Check:
    """An expectation, and whether it holds; `message` says what was there instead, or a judge's reason."""

    expectation: Expectation
    outcome: Outcome
    message: str = ""


@dataclass
class EvaluatedTurn:
    """A turn of which something is expected, and what came of it."""

    recorded: RecordedTurn
    expected: list[Expectation]
    again: Again | None = None
    checks: list[Check] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Its number in the file."""
        return self.recorded.turn.number

    def as_json(self) -> dict[str, Any]:
        """The turn as `eval --json` prints it."""
        return {
            "turn": self.number,
            "question": self.recorded.turn.question,
            "replayed": self.again.as_json() if self.again else None,
            "expectations": [
                {
                    "kind": check.expectation.kind,
                    "expectation": str(check.expectation),
                    "outcome": check.outcome,
                    "message": check.message,
                }
                for check in self.checks
            ],
        }


@dataclass
class Case:
    """A conversation in a file, and the turns of which something is expected."""

    name: str
    recording: FileRecording
    turns: list[EvaluatedTurn]


@dataclass
class Evaluation:
    """All of a folder."""

    application: str
    how: How
    judge: str
    cases: list[Case]
    judge_usage: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def count(self, outcome: Outcome) -> int:
        """How many expectations came out like that."""
        return sum(check.outcome == outcome for case in self.cases for turn in case.turns for check in turn.checks)

    @property
    def holds(self) -> bool:
        """True where every expectation holds."""
        return not (self.count("failed") or self.count("error"))

    def as_json(self) -> dict[str, Any]:
        """The evaluation as `eval --json` prints it."""
        return {
            "application": self.application,
            "model": self.how.model,
            "judge": self.judge,
            "run_tools": self.how.run_tools,
            "on_own_answers": self.how.on_own_answers,
            "passed": self.count("passed"),
            "failed": self.count("failed"),
            "errors": self.count("error"),
            "judge_usage": self.judge_usage,
            "left": self.left,
            "conversations": [
                {"file": case.name, "turns": [turn.as_json() for turn in case.turns]} for case in self.cases
            ],
        }


def read_folder(folder: Path) -> tuple[list[Case], list[str]]:
    """The conversations of a folder of which something is expected, and the names of those of which nothing is.

    Raises `UsageError` for what is no such folder, and for a file that is not right.
    """
    try:
        names = sorted(file.name for file in folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {files.why(error)}.") from error
    if other := [name for name in names if name.endswith(ENDING.replace(".yaml", ".yml"))]:
        raise UsageError(f"{folder / other[0]}: the name of such a file ends with {ENDING}. Nothing was asked.")
    expected = [name.removesuffix(ENDING) for name in names if name.endswith(ENDING)]
    conversations = {name.removesuffix(".json") for name in names if name.endswith(".json")}
    if alone := [name for name in expected if name not in conversations]:
        raise UsageError(f"{folder / (alone[0] + ENDING)}: there is no {alone[0]}.json beside it. Nothing was asked.")
    if not expected:
        raise UsageError(
            f"{folder} has no conversation with expectations: NAME.json, which `export --format json` writes, and "
            f"NAME{ENDING} beside it."
        )
    return [_case(folder, name) for name in expected], sorted(f"{each}.json" for each in conversations - {*expected})


def passed_over(folder: Path) -> list[str]:
    """The names of the folders in a folder that have expectations of their own, at which nobody looks."""
    return sorted({file.parent.name for file in folder.glob(f"*/*{ENDING}")})


def _case(folder: Path, name: str) -> Case:
    file = folder / f"{name}.json"
    for each in (file, folder / f"{name}{ENDING}"):
        if each.exists() and not each.is_file():
            raise UsageError(f"{each} cannot be read: it is no regular file.")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {files.why(error)}.") from error
    recording = FileRecording(document.read(data, str(file)))
    turns = {each.turn.number: each for each in recording.turns}
    wanted: list[ExpectedTurn] = read(folder / f"{name}{ENDING}", sorted(turns))
    made = [
        EvaluatedTurn(turns[each.turn], expectations(each)) for each in sorted(wanted, key=lambda each: each.turn)
    ]
    return Case(f"{name}.json", recording, made)


class Evaluating:
    """Asks the turns of an evaluation, several at once."""

    def __init__(self, connection: AgentConnection, found: Evaluation, judge: Judge | None, jobs: int) -> None:
        self._connection = connection
        self._found = found
        self._judge = judge
        self._jobs = jobs
        self._asking: set[Asking] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, done: Callable[[Case, EvaluatedTurn], None]) -> None:
        """Ask all; `done` is told each turn, on this thread. Raises `ClientError` where nothing can be asked."""
        with ThreadPoolExecutor(self._jobs) as pool:
            jobs: dict[Future[None], tuple[Case, list[EvaluatedTurn]]] = {}
            for case in self._found.cases:
                together = [case.turns] if self._found.how.on_own_answers else [[turn] for turn in case.turns]
                for turns in together:
                    jobs[pool.submit(self._evaluate, case, turns)] = case, turns
            try:
                for job in as_completed(jobs):
                    job.result()
                    case, turns = jobs[job]
                    for turn in turns:
                        done(case, turn)
            except BaseException:
                self.stop()
                pool.shutdown(cancel_futures=True)
                raise

    def stop(self) -> None:
        """End what runs, and begin nothing."""
        with self._lock:
            self._stopped = True
            running = list(self._asking)
        if self._judge is not None:
            self._judge.close()
        for asking in running:
            asking.cancel()

    def _evaluate(self, case: Case, turns: list[EvaluatedTurn]) -> None:
        asking = Asking(self._connection, case.recording, self._found.how)
        with self._lock:
            if self._stopped:
                return
            self._asking.add(asking)
        made, failure = list[Compared](), ""
        try:
            asked = [turn.recorded for turn in turns]
            if self._found.how.on_own_answers:  # those in between are asked, too
                asked = [each for each in case.recording.turns if each.turn.number <= turns[-1].number]
            for each in asking.ask(asked, lambda _: None):
                made.append(each)
        except (NoEngine, NotRegistered, UsageError):
            raise
        except ClientError as error:
            failure = str(error)
        finally:
            with self._lock:
                self._asking.discard(asking)
                self._found.left += asking.left
        self._look(case, turns, made, failure)  # when no session is held any more: a judge takes its time

    def _look(self, case: Case, turns: list[EvaluatedTurn], made: list[Compared], failure: str) -> None:
        again = {each.recorded.turn.number: each.again for each in made}
        earlier: list[tuple[str, str]] = []
        found = {turn.number: turn for turn in turns}
        for recorded in case.recording.turns:
            number, now = recorded.turn.number, again.get(recorded.turn.number)
            if (turn := found.get(number)) is not None and now is not None:
                turn.again = now
                turn.checks = [self._checked(earlier, turn, now, each) for each in turn.expected]
            elif turn is not None:
                turn.checks = [Check(each, "error", failure) for each in turn.expected]
            own = self._found.how.on_own_answers and now is not None
            earlier.append((recorded.turn.question, now.answer if own and now else recorded.answer))

    def _checked(
        self, earlier: list[tuple[str, str]], turn: EvaluatedTurn, again: Again, expected: Expectation
    ) -> Check:
        if again.status == "failed":
            return Check(expected, "error", f"The turn failed: {again.error}")
        if expected.kind != "judge" or again.status == "would_wait" or again.answer == NOT_RUN:
            return check(expected, again)
        assert self._judge is not None
        try:
            verdict = self._judge.ask(expected.what, earlier, turn.recorded.turn.question, again)
        except JudgeError as error:
            return Check(expected, "error", str(error))
        return Check(expected, "passed" if verdict.holds else "failed", verdict.reason or "The judge gave no reason.")


def check(expected: Expectation, again: Again) -> Check:
    """Look whether what is expected holds, of what needs no judge."""
    what = expected.what
    if again.status == "would_wait" and expected.kind not in ("calls", "not_calls"):
        return Check(expected, "failed", _no_answer(again))
    if again.answer == NOT_RUN and expected.kind not in ("calls", "not_calls"):  # of an agent that stops at a tool
        return Check(expected, "error", "The answer would be the output of a call, which was not carried out.")
    match expected.kind:
        case "contains" if what not in again.answer:
            return Check(expected, "failed", f"The answer is: {_shown(again.answer)}")
        case "not_contains" if what in again.answer:
            at = again.answer.index(what)
            return Check(expected, "failed", f"The answer has it: {_shown(again.answer[max(at - 80, 0) :])}")
        case "calls" if not any(_is_such(call.tool, call.arguments, what) for call in again.calls):
            return Check(expected, "failed", _called(again))
        case "not_calls" if any(call.tool == what for call in again.calls):
            return Check(expected, "failed", _called(again))
        case "json_schema":
            return _fitting(expected, again)
    return Check(expected, "passed")


def _is_such(tool: str, arguments: str, wanted: ExpectedCall) -> bool:
    if tool != wanted.tool:
        return False
    try:
        given = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return not wanted.arguments
    return _has(given, wanted.arguments)


def _has(whole: Any, part: Any) -> bool:
    """True where each object of the part is in that of the whole, and all else is equal, as JSON values."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and _has(whole[name], part[name]) for name in part)
    if isinstance(part, list):
        same = isinstance(whole, list) and len(whole) == len(part)
        return same and all(_has(mine, theirs) for mine, theirs in zip(whole, part, strict=True))
    return arguments_value(json.dumps(whole)) == arguments_value(json.dumps(part))


def _fitting(expected: Expectation, again: Again) -> Check:
    from jsonschema.exceptions import best_match
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    value = again.output
    if value is None:
        try:
            value = json.loads(again.answer, parse_constant=_no_json)
        except (ValueError, RecursionError):
            return Check(expected, "failed", f"The answer is no JSON: {_shown(again.answer)}")
    kind = validator_for(expected.what, default=Draft202012Validator)
    try:
        wrong = best_match(kind(expected.what, registry=Registry()).iter_errors(value))  # which loads nothing
    except Unresolvable as error:
        return Check(expected, "error", f"The schema refers to what is not in it: {error.ref}")
    except RecursionError:
        return Check(expected, "error", "The schema goes round in a circle.")
    if wrong is None:
        return Check(expected, "passed")
    path = ".".join(map(str, wrong.absolute_path))
    return Check(
        expected, "failed", f"The output does not fit{f' at {path}' if path else ''}: {_shown(wrong.message)}"
    )


def _no_json(constant: str) -> NoReturn:
    raise ValueError(constant)


def _called(again: Again) -> str:
    calls = ", ".join(f"{call.tool}({' '.join(call.arguments.split())})" for call in again.calls)
    return f"It called: {_shown(calls)}" if calls else "It called nothing."


def _no_answer(again: Again) -> str:
    waits = [
        f"{call.tool}({' '.join(call.arguments.split())})" for call in again.calls if call.outcome == "would_wait"
    ]
    return f"There is no answer: the turn would wait for an approval of {_shown(', '.join(waits))}."


def _shown(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _SHOWN else f"{words[: _SHOWN - 1]}…"
