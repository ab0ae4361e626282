"""Finished results on the screen, for people and as JSON: a reply, a history, a list of sessions, a status."""

from __future__ import annotations

import os
import shlex
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flameagent import model_choice
from flameagent.cli.program import program as program
from flameagent.cli.terminal import failed
from flameagent.conversation import item_text
from flameagent.transcript import wording

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.client.approvals import Pending
    from flameagent.client.history import History
    from flameagent.client.registered import Registered
    from flameagent.client.reply import Reply
    from flameagent.client.sessions import SessionInfo
    from flameagent.client.status import Status
    from flameagent.client.timings import TurnTimes
    from flameagent.conversation import (
        Attached,
        Block,
        Call,
        DecisionBody,
        Item,
        Rewind,
        Summarized,
        Summary,
        TurnDecision,
    )
    from flameagent.conversation.failures import Failure

NEWEST = 12
"""How many items are shown after an answer."""

_NARROW = 70
_ABOVE = "(the answer above)"


def reply(screen: Screen, found: Reply, *, streamed: bool = False) -> None:
    """Show under an answer the newest items of the conversation, with this turn's marked.

    An answer that was `streamed` stands above already and is named alone; then what came before it is short.
    """
    if screen.quiet:
        return
    if found.conversation is not None:
        screen.text("")
        screen.heading(f"Session History ({found.session_id})")
        newest = [
            (item, block.turn is not None and block.turn.id == found.turn_id)
            for block in found.conversation.blocks
            for item in block.items
        ][-NEWEST:]
        before = found.conversation.item_count - len(newest)
        if before:
            screen.aside(f"  … {before} before; all of it: {program()} history {found.session_id}")
        above = _answer_of(found, newest) if streamed else None
        for place, (item, marked) in enumerate(newest):
            if place == above:
                screen.item({"role": "assistant", "content": _ABOVE}, marked=marked)
            else:
                screen.item(item, marked=marked, brief=streamed)
    if found.note:
        note(screen, found)
    elif found.model:
        screen.notice(f"Answered by {found.model}.")


def _answer_of(found: Reply, items: Sequence[tuple[Item, bool]]) -> int | None:
    """The place of the reply's answer among items, each with whether it is of this turn."""
    for place, (item, marked) in reversed(list(enumerate(items))):
        label, text = item_text.describe_item(item)
        if marked and label == "assistant" and text.strip() == found.answer.strip():
            return place
    return None


def note(screen: Screen, found: Reply) -> None:
    """Say how an answer came about, and once a session what would make it better."""
    screen.notice(found.note, wrapped=True)
    if found.model == model_choice.LOCAL_MODEL:
        if found.turn <= 1:
            screen.notice(f"For a better model, {model_choice.HOW_TO_CHOOSE}.", wrapped=True)
    elif found.model:
        screen.notice(f"Answered by {found.model}.")


def how_to_go_on(session_id: str) -> str:
    """The line that resumes the session."""
    return f'Go on: {program()} -s {session_id} -m "…"'


def how_to_decide(session_id: str, calls: Sequence[Call]) -> str:
    """The lines that decide on calls that wait: on these, whatever waits when someone runs them."""

    def named(found: Sequence[Call]) -> str:
        ids = list(dict.fromkeys(call.id for call in found))
        return shlex.join([session_id, *(["--"] if any(each.startswith("-") for each in ids) else []), *ids])

    ours = [call for call in calls if not call.runner]  # the others nobody approves: their client gives their result
    approve = [f"Approve: {program()} approve {named(ours)}"] if ours else []
    return "\n".join([*approve, f"Reject:  {program()} reject {named(calls)}"])


def waiting(pending: Pending) -> list[str]:
    """The calls that wait, a few lines each."""
    count = "1 call waits" if len(pending.calls) == 1 else f"{len(pending.calls)} calls wait"
    return [f"{count} for your decision:", *calls(pending.calls)]


def calls(found: Sequence[Call], *, whole: bool = False) -> list[str]:
    """Calls with their IDs and arguments; long ones folded, unless they are wanted `whole`."""
    lines = []
    width = max((len(call.id) for call in found), default=0)
    for call in found:
        text = wording.call_text(call) + (" (its client gives the result)" if call.runner else "")
        first, *more = (text if whole else item_text.shorten(text)).split("\n")
        lines += [f"  {call.id:<{width}}  {first}", *(f"  {'':<{width}}  {line}" for line in more)]
    return lines


def history(
    screen: Screen,
    found: History,
    *,
    turn: int | None = None,
    every: bool = False,
    user: str = "",
    timings: bool = False,
) -> None:
    """A conversation from its beginning, turn by turn; with `turn` that one, with `every` what was rewound too.

    Whose it is, where that is another than `user`, who looks; with `timings` what took how long.
    """
    from flameagent.client.timings import turn_times
    from flameagent.conversation import Rewind, Summarized

    if screen.as_json:
        screen.data(found.as_json(turn=turn, every=every))
        return
    conversation = found.conversation
    if conversation is None:
        screen.text(f"The session {found.session_id} ({found.state}) has no context: it keeps no history.")
        return
    if turn is None:
        screen.heading(f"Session {found.session_id} ({found.state}), {wording.turns(conversation.turn_count)}")
        owner = conversation.owner if conversation.owner != user else ""
        for label, text in (("title", conversation.title), ("copy of", conversation.origin), ("owner", owner)):
            if text:
                screen.note(label, "dim", text)
        if conversation.prompt:
            screen.item({"role": "prompt", "content": conversation.prompt})
    kept, apart = {id(block) for block in found.blocks}, turn is None
    parts: Sequence[Block | Summarized | Rewind] = found.everything if every else found.parts
    failures = deque(found.failures if every and turn is None else ())
    for part in parts if turn is None else found.shown(turn=turn, every=every):
        _failures(screen, failures, _moment(part))
        if isinstance(part, Rewind):
            screen.text("")
            screen.heading(_rewound(part))
            continue
        if isinstance(part, Summarized):
            screen.text("")
            summary(screen, part.summary)
            apart = True
            continue
        if part.turn is not None and apart:
            screen.text("")
        _block(screen, part, rewound=id(part) not in kept)
        if timings and part.turn is not None:
            _times(screen, turn_times(part.turn, part.items, found.asked))
        apart = True
    _failures(screen, failures)
    if found.waiting is not None and turn is None:
        _waiting(screen, found, found.waiting)
    elif conversation.retry_question and turn is None:
        screen.text("")
        screen.heading("Taken back to be asked again")
        _attachments(screen, conversation.retry_data.attachments)
        screen.item({"role": "user", "content": conversation.retry_question}, whole=True)


def _times(screen: Screen, found: TurnTimes) -> None:
    for line in wording.times(found):
        screen.note("time", "dim", line)


def _failures(screen: Screen, failures: deque[Failure], before: float = float("inf")) -> None:
    """Those that come before that moment."""
    while failures and failures[0].ended <= before:
        screen.text("")
        failed.failure(screen, failures.popleft())


def _moment(part: Block | Summarized | Rewind) -> int:
    """When it came about; 0 for what nobody knows of."""
    from flameagent.conversation import Rewind, Summarized

    if isinstance(part, Rewind):
        return part.at
    if isinstance(part, Summarized):
        return part.summary.at
    return part.turn.at if part.turn else 0


def summary(screen: Screen, found: Summary) -> None:
    """What a model wrote of turns that it is not shown any more."""
    screen.heading(wording.summarized(found))
    screen.note("summary", "dim", found.text)


def _rewound(rewind: Rewind) -> str:
    kept = f"to turn {rewind.turns}" if rewind.turns else "to the beginning"
    return " · ".join(filter(None, (f"Rewound {kept}", wording.moment(rewind.at), rewind.by)))


def _block(screen: Screen, block: Block, *, rewound: bool) -> None:
    turn = block.turn
    if turn is not None:
        about = f"Turn {turn.number}", wording.moment(turn.at), turn.model, "rewound" if rewound else ""
        screen.heading(" · ".join(filter(None, about)))
        _attachments(screen, turn.attachments)
    decisions = list(turn.decisions) if turn else []
    for item in block.items:
        if item.get("type") == "function_call_output":
            for decided in [each for each in decisions if _decides(each, item)]:
                _decision(screen, decided, block.items)
                decisions.remove(decided)
        screen.item(item, whole=True)
    for decided in decisions:
        _decision(screen, decided, block.items)
    for key, text in (turn.facts if turn else {}).items():
        screen.note("memory", "blue", wording.learned(key, text))


def _attachments(screen: Screen, found: Sequence[Attached]) -> None:
    for each in found:
        screen.note("returned" if each.call else "attached", "dim", wording.attached(each))


def _decides(decided: TurnDecision, item: dict[str, Any]) -> bool:
    return item.get("call_id") in (*decided.approved, *decided.rejected)


def _decision(screen: Screen, decided: TurnDecision, among: list[dict[str, Any]]) -> None:
    for line in wording.decided_lines(decided, among):
        screen.note("decision", "yellow", f"{line} · {wording.moment(decided.at)}")


def _waiting(screen: Screen, found: History, pending: Pending) -> None:
    screen.text("")
    screen.heading("Waits for a decision")
    _attachments(screen, pending.attachments)
    screen.item({"role": "user", "content": pending.question}, whole=True)
    for line in calls(pending.calls, whole=True):
        screen.text(line)
    if pending.decision is not None:
        screen.text(_decided(pending.decision, found.busy))


def _decided(decision: DecisionBody, busy: bool) -> str:
    verdicts = [
        f"{verb} {', '.join(ids)}"
        for verb, ids in (("approved", decision.approved), ("rejected", decision.rejected))
        if ids
    ]
    said = " and ".join(verdicts) + (f" ({decision.reason})" if decision.reason else "")
    came = (
        "that is being carried out"
        if busy
        else "the turn did not come to its end: what was approved may have run"
        if decision.approved
        else "the turn did not come to its end"
    )
    return f"{decision.by or 'Someone'} {said}; {came}."


def applications(screen: Screen, found: list[Registered]) -> None:
    """The applications, one a line."""
    if screen.as_json:
        screen.data([asdict(each) for each in found])
        return
    if not found:
        screen.notice("No agent is registered on this engine yet; on the embedded one, the first question does it.")
        return
    rows = [("NAME", "SESSIONS", "AGENT", "FOLDER")]
    rows += [(each.application, str(each.sessions), each.agent, each.folder) for each in found]
    name, _, agent, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"{row[0]:<{name}}  {row[1]:>8}  {row[2]:<{agent}}  {row[3]}".rstrip() for row in rows]
    screen.heading(lines[0])
    for line in lines[1:]:
        screen.text(line, folded=True)


def sessions(screen: Screen, found: list[SessionInfo], *, filtered: bool = False) -> None:
    """The sessions, one a line; where the terminal is narrow, two."""
    if screen.as_json:
        screen.data([session.as_json() for session in found])
        return
    if not found:
        begin = f'There are no sessions yet. Begin one: {program()} -m "who are you?"'
        screen.notice("No session is like that." if filtered else begin)
        return
    width = max(len(session.short) for session in found)
    narrow = screen.width is not None and screen.width < _NARROW
    if narrow:
        screen.heading(f"{'ID':<{width}}  {'STATE':<7}  {'TURNS':>5}  {'AGE':>6}")
    else:
        head = f"{'ID':<{width}}  {'STATE':<7}  {'TURNS':>5}  {'TOKENS':>6}  {'SIZE':>6}  {'AGE':>6}  "
        screen.heading(f"{head}TITLE")
    for session in found:
        count = "?" if session.problem and not session.turns else str(session.turns)
        start = f"{session.short:<{width}}  {session.state:<7}  {count:>5}  "
        old, problem = f"{wording.age(session.created):>6}", session.problem and f"({session.problem})"
        if not narrow:
            start += f"{wording.tokens(session.usage):>6}  {wording.size(session.size):>6}  "
        start += old
        said = " ".join(filter(None, (wording.title(session.title), problem)))
        if narrow:
            screen.text(start)
            for text in filter(None, (said, session.match)):
                screen.aside(f"  {text}", folded=True)
        else:
            screen.text(f"{start}  {said}".rstrip(), folded=True)
            if session.match:
                screen.aside(f"{'':{len(start)}}  {session.match}", folded=True)


def status(screen: Screen, found: Status) -> None:
    """Show what a question would meet now."""
    if screen.as_json:
        screen.data(asdict(found))
        return
    about = {
        "engine": f"{found.engine}{_reachable(found)}" if found.engine else "not known",
        "": found.endpoint,
        "why": found.why if found.engine == "embedded" else "",
        "agent": f"{found.application}, {_REGISTERED[found.registered]}" if found.application else "not known",
        "runs": f"{found.agent} in {found.folder}" if found.folder else "",
        "chosen by": found.application_source,
        "model": f"{found.model} ({found.model_source})" if found.model else _NO_MODEL[found.engine],
        "problem": found.problem,
        "advice": found.advice,
    }
    width = max(map(len, ["cache_endpoint", *found.settings, *found.unused, *found.variables])) + 2
    for label, text in about.items():
        for number, line in enumerate(text.splitlines()):
            screen.field(f"{'' if number else label:<{width}}", line)
    screen.text("")
    screen.heading("Settings")
    for settings, effect in ((found.settings, ""), (found.unused, ", without effect here")):
        for name, setting in settings.items():
            from_file = found.settings_file and setting.source.endswith(found.settings_file)
            source = "settings file" if from_file else setting.source
            screen.value(f"{name:<{width}}", setting.value, f"({source}{effect})")
    for name, value in found.variables.items():
        screen.value(f"{name:<{width}}", value)
    there = "" if os.access(found.settings_file, os.F_OK) else "(not there)"
    screen.value(
        f"{'settings file':<{width}}", found.settings_file or "none", there if found.settings_file else _HOMELESS
    )


_HOMELESS = "(there is no home: set HOME)"
_REGISTERED = {True: "registered", False: "not registered", None: "registration unknown"}
_NO_MODEL = {"embedded": "none", "cluster": "what the cluster's executor managers have set", "": "not known"}


def _reachable(found: Status) -> str:
    """Of an embedded engine that does not run, the home is known, and no address."""
    there = found.engine == "cluster" or "://" in found.endpoint
    return ", reachable" if found.reachable else ", not reachable" if there else ", not running"
