"""An approval lets only that run which a human saw, whatever models and nested runs call their calls."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert, to_builtins

from flameagent.apis import Answer, Decision, Question
from flameagent.conversation import EditBody, PendingBody
from flameagent.flame.cache import ObjectCache
from localflame import Engine
from tests.integration.service.talk import Talk, fresh
from tests.support.desk import AGENTS, desk
from tests.support.model_server import ModelServer, Step
from tests.support.shim import Shim


@dataclass
class Case:
    """A conversation at the desk, in which a human decides."""

    folder: Path
    instance: Shim
    talk: Talk
    question: str = ""
    turn: str = ""
    stream: str = ""
    answer: Answer = field(default_factory=lambda: Answer(""))

    def ask(self, question: str, turn: str = "t") -> list[dict[str, str]]:
        self.question, self.turn = question, turn
        return self._invoked(Question(question, id=turn))

    def decide(self, **more: Any) -> list[dict[str, str]]:
        waiting = self.talk.conversation.waiting
        assert waiting is not None
        decision = Decision(uuid.uuid4().hex, waiting.record_id, **more)
        return self._invoked(Question(waiting.question, id=waiting.turn_id, decision=decision))

    def _invoked(self, question: Question) -> list[dict[str, str]]:
        self.answer = self.instance.invoke(replace(question, stream=self.stream), uuid.uuid4().hex)
        return self.answer.pending or []

    @property
    def effects(self) -> list[str]:
        file = self.folder / "effects"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def waits(self) -> bool:
        return self.talk.conversation.waiting is not None


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, engine: Engine, model_server: ModelServer) -> Iterator[Shim]:
    with fresh(tmp_path_factory.mktemp("desk"), AGENTS, engine, model_server) as shim:
        yield shim


@pytest.fixture
def case(opened: Shim, talk: Talk, model: ModelServer) -> Case:
    model.script = desk
    (opened.log.parent / "effects").unlink(missing_ok=True)
    return Case(opened.log.parent, opened.enter(talk.id, talk.ref.encode()), talk)


def ids(calls: list[dict[str, str]]) -> list[str]:
    return [call["id"] for call in calls]


def calls_of(calls: list[dict[str, str]]) -> list[str]:
    return [f"{call.get('agent', '')}: {call['tool']} {json.loads(call['arguments'])['order']}" for call in calls]


_TOGETHER = {
    "ask_clerk: refund 7, refund 7",
    "their-own@ask_clerk: refund 7, refund 7; refund 7",
    "deep@ask_office: ask_clerk: refund 7 & ask_clerk: refund 7",
}
"""In which several calls of one nested run wait."""


@pytest.mark.parametrize(
    ("question", "calls"),
    [
        ("ask_clerk: refund 7; ask_clerk: refund 8", ["clerk: refund 7", "clerk: refund 8"]),
        ("ask_clerk: refund 7; ask_clerk: void 7", ["clerk: refund 7", "clerk: void 7"]),
        ("ask_clerk: refund 7; ask_clerk: refund 7", ["clerk: refund 7", "clerk: refund 7"]),
        ("ask_clerk: refund 7, refund 7", ["clerk: refund 7", "clerk: refund 7"]),
        ("refund 7; ask_clerk: refund 7", [": refund 7", "clerk: refund 7"]),
        ("refund 7, refund 7", [": refund 7", ": refund 7"]),
        ("their-own@ask_clerk: refund 7; ask_clerk: refund 8", ["clerk: refund 7", "clerk: refund 8"]),
        ("their-own@ask_clerk: refund 7, refund 7; refund 7", ["clerk: refund 7", "clerk: refund 7", ": refund 7"]),
        ("their-run@ask_clerk: refund 7; ask_clerk: refund 7", ["clerk: refund 7", "clerk: refund 7"]),
        ("alone@refund 7, void 7, refund 7", [": refund 7", ": void 7", ": refund 7"]),
        (
            "deep@ask_office: ask_clerk: refund 7; ask_office: ask_clerk: refund 8",
            ["clerk: refund 7", "clerk: refund 8"],
        ),
        ("deep@ask_office: ask_clerk: refund 7 & ask_clerk: refund 7", ["clerk: refund 7", "clerk: refund 7"]),
        (
            "deeper@ask_office: ask_branch: ask_clerk: refund 7; ask_office: ask_branch: ask_clerk: refund 7",
            ["clerk: refund 7", "clerk: refund 7"],
        ),
        ("twins@ask_clerk: refund 7; ask_twin: refund 7", ["clerk: refund 7", "clerk: refund 7"]),
        ("handoff@refund 7, refund 7", ["clerk: refund 7", "clerk: refund 7"]),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_of_calls_with_one_id_one_approval_runs_one(
    case: Case, question: str, calls: list[str], stream: bool, cache: ObjectCache
) -> None:
    if stream:
        case.stream = cache.put(f"app/{uuid.uuid4().hex}", b"").key
    waits = case.ask(question)
    assert case.answer.error == ""
    assert sorted(calls_of(waits)) == sorted(calls)
    assert len({*ids(waits)}) == len(calls)
    done: list[str] = []
    while waits:
        newest = waits[-1]
        left = case.decide(approve=(newest["id"],))
        assert case.answer.error == ""
        done.append(calls_of([newest])[0].partition(": ")[2])
        # The SDK goes on with a nested run when all of its calls are decided on: what was approved may run later.
        assert not Counter(case.effects) - Counter(done)
        assert case.effects == done or question in _TOGETHER
        assert sorted(ids(left)) == sorted(ids(waits[:-1]))
        waits = left
    assert not case.waits
    assert sorted(case.effects) == sorted(done)


def test_always_holds_for_later_calls_of_that_tool_by_that_agent(case: Case) -> None:
    waits = case.ask("ask_clerk: refund 7; ask_clerk: refund 8; ask_other: refund 9")
    assert calls_of(waits) == ["clerk: refund 7", "clerk: refund 8", "other: refund 9"]
    left = case.decide(approve=(ids(waits)[0],), always=True)
    assert (case.effects, ids(left)) == (["refund 7"], ids(waits)[1:])  # what was shown and not approved waits on
    assert case.decide(reject=tuple(ids(left))) == []
    assert case.ask("ask_clerk: refund 10, void 11; ask_other: refund 12; refund 13", "u") != []
    assert calls_of(case.answer.pending or []) == ["clerk: void 11", "other: refund 12", ": refund 13"]
    case.decide(reject=tuple(ids(case.answer.pending or [])))
    assert case.effects == ["refund 7", "refund 10"]


def test_always_is_of_the_agent_that_was_asked(case: Case) -> None:
    (call,) = case.ask("refund 7")
    case.decide(approve=(call["id"],), always=True)
    assert case.ask("refund 8", "u") == []
    assert calls_of(case.ask("other-desk@refund 9", "v")) == [": refund 9"]
    assert case.effects == ["refund 7", "refund 8"]


def test_an_id_that_waited_once_never_names_another_call(case: Case) -> None:
    (first,) = case.ask("ask_clerk: refund 7")
    case.talk.log().append(EditBody("cancel", turn="t"))
    (second,) = case.ask("ask_clerk: refund 8", "u")
    assert second["id"] != first["id"]
    assert case.decide(approve=(first["id"],)) == []
    assert (case.answer.code, case.effects) == ("conflict", [])
    case.decide(reject=(second["id"],))
    log = case.talk.log()
    log.append(EditBody("clear"))
    (third,) = case.ask("ask_clerk: refund 9", "v")
    assert third["id"] not in {first["id"], second["id"]}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"approve": (0, 0)}, "is named twice"),
        ({"reject": (0, 1, 0)}, "is named twice"),
        ({"approve": (0,), "reject": (1, 0)}, "is both approved and rejected"),
        ({"approve": (0, "functions.refund:9")}, "The call functions.refund:9 does not wait; these do:"),
        ({}, "names no call"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused_as_a_whole(case: Case, names: dict[str, Any], said: str) -> None:
    waits = ids(case.ask("ask_clerk: refund 7; ask_clerk: refund 8"))
    before = case.talk.conversation.seq
    chosen = {verb: tuple(waits[n] if isinstance(n, int) else n for n in calls) for verb, calls in names.items()}
    case.decide(**chosen)
    assert (case.answer.code, case.effects, case.talk.conversation.seq) == ("conflict", [], before)
    assert said in case.answer.error
    case.decide(reject=tuple(waits))
    assert not case.waits


def test_calls_that_wait_under_one_id_in_an_older_record_can_be_rejected_only(case: Case) -> None:
    waits = case.ask("ask_clerk: refund 7; ask_clerk: refund 8")
    pending = case.talk.conversation.waiting
    assert pending is not None
    older = json.dumps(to_builtins(pending.pending))
    for call in ids(waits):
        older = older.replace(call, "functions.refund:0")
    body = convert(json.loads(older), PendingBody)
    talk = Talk(case.talk.cache)
    talk.log().append(body)
    old = Case(case.folder, case.instance.enter(talk.id, talk.ref.encode()), talk)
    old.decide(approve=("functions.refund:0",))
    assert "Reject its calls" in old.answer.error
    assert (old.effects, talk.log().conversation.seq) == ([], 1)
    old.decide(reject=("functions.refund:0",))
    assert (old.answer.error, old.effects, old.waits) == ("", [], False)
    old.ask("refund 9", "u")
    old.decide(approve=tuple(ids(old.answer.pending or [])))
    assert old.effects == ["refund 9"]


def test_a_decision_is_carried_out_by_another_process_and_dies_with_its_own_call_alone(
    case: Case, tmp_path: Path, engine: Engine, model: ModelServer
) -> None:
    waits = case.ask("ask_clerk: refund 7; ask_clerk: refund 8")
    with fresh(tmp_path, AGENTS, engine, model, CRASH="refund 7") as shim:
        other = Case(tmp_path, shim.enter(case.talk.id, case.talk.ref.encode()), case.talk)
        assert ids(other.decide(approve=(ids(waits)[0],))) == ids(waits)
        assert "may have run" in other.answer.note
        assert other.effects == ["refund 7"]
        left = other.decide(approve=(ids(waits)[0],))
        assert (ids(left), other.effects) == (ids(waits)[1:], ["refund 7", "refund 7"])
    assert case.decide(approve=(ids(left)[0],)) == []
    assert case.effects == ["refund 8"]


def test_nothing_is_approved_for_good_of_agents_that_share_a_name(case: Case) -> None:
    waits = ids(case.ask("twins@ask_clerk: refund 7; ask_twin: refund 8"))
    before = case.talk.conversation.seq
    case.decide(approve=(waits[0],), always=True)
    assert "Several agents are called clerk" in case.answer.error
    assert (case.effects, case.talk.conversation.seq) == ([], before)
    left = case.decide(approve=(waits[0],))
    assert (case.effects, ids(left)) == (["refund 7"], waits[1:])


def test_a_rule_of_one_agent_is_not_that_of_another_of_its_name(case: Case) -> None:
    (call,) = case.ask("ask_clerk: refund 7")
    case.decide(approve=(call["id"],), always=True)
    assert len(case.ask("twins@ask_clerk: refund 8; ask_twin: refund 9", "u")) == 2
    assert case.effects == ["refund 7"]


_NO_SERVER = """
from agents.mcp import MCPServerStdio
clerk.mcp_servers.append(MCPServerStdio(params={"command": "/nonexistent"}, name="ledger"))
"""


@pytest.mark.parametrize("missing", ["model", "mcp server"])
def test_what_waits_can_be_rejected_without_a_model_and_mcp_servers(
    case: Case, tmp_path: Path, engine: Engine, model: ModelServer, missing: str
) -> None:
    waits = ids(case.ask("refund 6; ask_clerk: refund 7"))
    source = AGENTS + _NO_SERVER if missing == "mcp server" else AGENTS
    more = {"OPENAI_BASE_URL": ""} if missing == "model" else {}
    reason = "needs a key" if missing == "model" else "the MCP server ledger does not start"
    with fresh(tmp_path, source, engine, model, **more) as shim:
        other = Case(tmp_path, shim.enter(case.talk.id, case.talk.ref.encode()), case.talk)
        before = case.talk.conversation.seq
        for decision in ({"approve": tuple(waits)}, {"reject": (waits[0],)}, {"reject": (*waits, "none")}):
            other.decide(**decision)
            assert reason in other.answer.error
            assert (other.waits, case.talk.conversation.seq) == (True, before)
        other.decide(reject=tuple(waits))
        assert (other.answer.error, other.waits) == ("", False)
        assert "rejected" in other.answer.answer and reason in other.answer.note
    case.ask("refund 9", "u")
    case.decide(approve=tuple(ids(case.answer.pending or [])))
    assert case.effects == ["refund 9"]


@pytest.mark.parametrize("given", ["", "x" * 300, "-7", " ", "mcpr_\n"])
@pytest.mark.parametrize("which", ["", "their-own@"])
def test_odd_ids_name_one_call_each(case: Case, model: ModelServer, given: str, which: str) -> None:
    def odd(request: dict[str, Any]) -> Step:
        step = desk(request)
        return replace(step, calls=tuple(replace(call, id=given) for call in step.calls))

    model.script = odd
    ids_ = re.compile(r"(?s).{1,400}")
    model.ids, usual = ids_, model.ids
    try:
        first, second = ids(case.ask(f"{which}ask_clerk: refund 7; ask_clerk: refund 7"))
        assert first != second and first and second
        assert ids(case.decide(approve=(second,))) == [first]
        assert case.effects == ["refund 7"]
        assert case.decide(reject=(first,)) == []
        (again,) = ids(case.ask(f"{which}ask_clerk: refund 7", "u"))
        assert again not in {first, second}
        assert case.decide(reject=(again,)) == []
        assert case.effects == ["refund 7"]
    finally:
        model.ids = usual


HOSTED = """
from agents import Agent, HostedMCPTool
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance

instance = FlameInstance()
bank = HostedMCPTool(tool_config={
    "type": "mcp", "server_label": "bank", "server_url": "https://bank.example", "require_approval": "always",
})
desk = Agent(name="desk", tools=[bank])

@instance.entrypoint
async def ask(question: Question) -> Answer:
    return await instance.answer(desk, question)
"""


@pytest.mark.parametrize("same", [False, True], ids=["own IDs", "one ID"])
def test_what_a_hosted_mcp_server_asks_is_decided_one_by_one(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, same: bool
) -> None:
    def bank(request: dict[str, Any]) -> Step:
        given = [item for item in request["input"] if item.get("type") == "mcp_approval_response"]
        if given:
            return Step(text=", ".join(f"{item['approve']}" for item in given))
        output = [
            {
                "type": "mcp_approval_request",
                "id": "mcpr_0" if same else f"mcpr_{order}",
                "server_label": "bank",
                "name": "refund",
                "arguments": json.dumps({"order": order}),
            }
            for order in (7, 8)
        ]
        body = {
            "id": "resp_1",
            "object": "response",
            "created_at": 0,
            "model": "scripted",
            "status": "completed",
            "output": output,
            "tools": [],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
        }
        return Step(body=json.dumps(body))

    model.script = bank
    with fresh(tmp_path, HOSTED, engine, model, AGENT_API="responses") as shim:
        case = Case(tmp_path, shim.enter(talk.id, talk.ref.encode()), talk)
        waits = case.ask("refund both")
        assert [(call["tool"], json.loads(call["arguments"])["order"]) for call in waits] == [
            ("bank.refund", 7),
            ("bank.refund", 8),
        ]
        seven, eight = ids(waits)
        assert seven != eight
        model.stored |= {seven, eight}
        left = case.decide(approve=(eight,))
        assert (case.answer.error, ids(left)) == ("", [seven])
        assert case.decide(reject=(seven,)) == []
        assert case.answer.error == ""
    sent = model.bodies[-1]["input"]
    decided = {i["approval_request_id"]: i["approve"] for i in sent if i.get("type") == "mcp_approval_response"}
    assert decided[eight] is True and not decided.get(seven)
    requested = {
        i["id"]: json.loads(i["arguments"])["order"] for i in sent if i.get("type") == "mcp_approval_request"
    }
    assert requested[eight] == 8
