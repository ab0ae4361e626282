"""`examples/handoffs` through a real instance: handoff, MCP server, approval, output type and guardrail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flameagent.apis import Answer, Decision, Question
from localflame import Engine
from tests.integration.service.talk import Talk, environment
from tests.support.model_server import Call, ModelServer, Step
from tests.support.shim import ROOT, Shim

LOOKS_UP = Step(calls=(Call("find_order", '{"number": "1002"}', "f-1"),))
HANDS_OVER = Step(calls=(Call("transfer_to_refunds", "{}", "t-1"),))
REFUNDED = Step(text='{"order": "1001", "euros": 180, "done": true}')


def refunds(*ids: str) -> Step:
    return Step(calls=tuple(Call("refund", '{"order": "1001", "euros": 180}', name) for name in ids))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, engine: Engine, model_server: ModelServer) -> Iterator[Shim]:
    folder = tmp_path_factory.mktemp("example") / "handoffs"
    shutil.copytree(ROOT / "examples" / "handoffs", folder, ignore=shutil.ignore_patterns("__pycache__"))
    with Shim(folder, "agent:desk", **environment(engine, model_server)) as shim:
        yield shim
    while servers_of(folder):  # they end by themselves, when nobody writes to them any more
        time.sleep(0.05)


@pytest.fixture
def instance(desk: Shim, talk: Talk, model: ModelServer) -> Shim:
    (desk.log.parent / "refunds.txt").unlink(missing_ok=True)
    return desk.enter(talk.id, talk.ref.encode())


def servers_of(folder: Path) -> list[int]:
    listed = subprocess.run(["pgrep", "-f", f"{folder}/orders.py"], capture_output=True, text=True).stdout
    return [int(line) for line in listed.split()]


def ledger(instance: Shim) -> list[str]:
    return (instance.log.parent / "refunds.txt").read_text().splitlines()


def tools_of(model: ModelServer) -> list[list[str]]:
    return [[tool["function"]["name"] for tool in body.get("tools", [])] for body in model.bodies]


def test_a_tool_of_an_mcp_server_is_called(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([LOOKS_UP, Step(text="A lamp, on its way.")])
    assert instance.invoke(Question("where is 1002?"), "1").answer == "A lamp, on its way."
    assert "a lamp, on its way, 35 euros" in json.dumps(talk.items())
    assert instance.invoke(Question("thanks"), "2").answer == "answer 2: thanks"


def test_an_mcp_server_that_has_ended_is_started_again_for_the_next_turn(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    instance.invoke(Question("hello"), "1")
    (server,) = servers_of(instance.log.parent)
    os.kill(server, signal.SIGKILL)
    while servers_of(instance.log.parent):
        time.sleep(0.01)
    model.steps.extend([LOOKS_UP, Step(text="A lamp.")])
    answer: Answer = instance.invoke(Question("where is 1002?"), "2")
    assert (answer.error, answer.answer) == ("", "A lamp.")
    assert "a lamp, on its way" in json.dumps(talk.items())


def test_a_handoff_an_approval_and_a_structured_answer_are_one_turn(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    model.steps.extend([HANDS_OVER, refunds("r-1")])
    waiting: Answer = instance.invoke(Question("pay back 1001", id="t"), "1")
    assert (waiting.code, waiting.error) == ("waiting", "")
    assert [call["tool"] for call in waiting.pending or []] == ["refund"]
    model.steps.append(REFUNDED)
    decision = Decision("d-1", waiting.on, approve=("r-1",))
    done: Answer = instance.invoke(Question("pay back 1001", id="t", decision=decision), "2")
    assert (done.error, json.loads(done.answer)) == ("", {"order": "1001", "euros": 180.0, "done": True})
    assert tools_of(model) == [["find_order", "transfer_to_refunds"], ["refund"], ["refund"]]
    assert len(ledger(instance)) == 1
    assert len(talk.turns()) == 1
    assert instance.invoke(Question("thanks", id="u"), "3").answer == "answer 2: thanks"


def test_two_equal_refunds_of_a_turn_are_two(instance: Shim, model: ModelServer) -> None:
    model.steps.extend([HANDS_OVER, refunds("r-1", "r-2")])
    waiting: Answer = instance.invoke(Question("pay back twice", id="t"), "1")
    first = Decision("d-1", waiting.on, approve=("r-1",))
    waiting = instance.invoke(Question("pay back twice", id="t", decision=first), "2")
    assert [call["id"] for call in waiting.pending or []] == ["r-2"]
    model.steps.append(REFUNDED)
    second = Decision("d-2", waiting.on, approve=("r-2",))
    assert instance.invoke(Question("pay back twice", id="t", decision=second), "3").error == ""
    assert len(ledger(instance)) == 2


def test_a_card_number_is_stopped_before_a_model_reads_it(instance: Shim, talk: Talk, model: ModelServer) -> None:
    answer: Answer = instance.invoke(Question("my card is 4111 1111 1111 1111"), "1")
    assert answer.error == "The question was stopped by the guardrail no_card_numbers."
    assert model.bodies == []
    assert talk.items() == []
