"""One trace a turn: asked over HTTP, with a worker that is killed, a handoff, MCP, and a decision of another process.

The collector is a real one: it speaks OTLP over gRPC.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.program import Program, eventually
from tests.acceptance.server.conftest import Served, serving
from tests.chaos.storm import checkout
from tests.support.model_server import Call, ModelServer, Step
from tests.support.otlp import Collector, Span
from tests.support.schema import check

_AGENT = """
import os, pathlib, signal, time
from agents import Agent, GuardrailFunctionOutput, function_tool, input_guardrail
from agents.mcp import MCPServerStdio
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance

@function_tool
def look_up(order: int) -> str:
    "Look up an order."
    crashed = pathlib.Path("crashed")
    if order == 7 and not crashed.exists():
        crashed.touch()
        time.sleep(1.0)  # in which what has ended before is sent
        os.kill(os.getpid(), signal.SIGKILL)
    return "a kettle"

@function_tool(needs_approval=True)
def refund(order: int) -> str:
    "Refund an order."
    return "refunded"

@function_tool
def break_it(order: int) -> str:
    "Break it."
    raise RuntimeError("it broke with key a-secret-key-4711")

@input_guardrail
def polite(context, agent, given) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, tripwire_triggered=False)

stock = MCPServerStdio({"command": PYTHON, "args": ["stock.py"]}, name="stock")
clerk = Agent(name="clerk", instructions="You refund.", tools=[refund])
desk = Agent(
    name="desk", instructions="You answer.", tools=[look_up, break_it], handoffs=[clerk], mcp_servers=[stock],
    input_guardrails=[polite],
)
instance = FlameInstance()

@instance.entrypoint
async def ask(question: Question) -> Answer:
    return await instance.answer(desk, question)
"""

_STOCK = """
from mcp.server import MCPServer

server = MCPServer("stock")

@server.tool()
def count(order: int) -> str:
    "Count what is there."
    return "three"

server.run()
"""

_CALLER = ("a" * 32, "b" * 16)
_SECRET = "a-secret-key-4711"


def _script(request: dict[str, Any]) -> Step:
    """Look an order up, count it, hand over, refund it; without an order an answer."""
    messages = request["messages"]
    last = max(place for place, message in enumerate(messages) if message["role"] == "user")
    asked, since = str(messages[last]["content"]), messages[last:]
    done = [call["function"]["name"] for message in since for call in message.get("tool_calls") or ()]
    steps = {
        "refund order 7": ["look_up", "count", "transfer_to_clerk", "refund"],
        "break order 8": ["break_it"],
        "fail": ["fail"],
    }.get(asked, [])
    if len(done) == len(steps):
        return Step(text="That is done, as a secret answer.")
    if steps == ["fail"]:
        return Step(status=401, body=json.dumps({"error": {"message": f"Incorrect API key provided: {_SECRET}"}}))
    name = steps[len(done)]
    arguments = "{}" if name.startswith("transfer") else json.dumps({"order": int(asked[-1])})
    return Step(calls=(Call(name, arguments, f"call_{len(done)}"),))


@dataclass(frozen=True)
class Traced:
    """A server, its engine, and the collector that both and their clients send to."""

    program: Program
    served: Served
    collector: Collector

    def asked(self, question: str, **headers: str) -> tuple[str, Any]:
        """The session, and the response."""
        with self.served.openai() as client:
            response = client.responses.create(model="openai-agent", input=question, extra_headers=headers)
            assert response.conversation is not None
            return response.conversation.id, response

    def of_turn(self, session: str, *names: str) -> dict[str, list[Span]]:
        """The spans of a session's traces by their names, when there are such."""
        self.collector.wait(lambda _: set(names) <= {span.name for span in self.collector.of(session)})
        found: dict[str, list[Span]] = {}
        for span in self.collector.of(session):
            found.setdefault(span.name, []).append(span)
        return found


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traces")
    with Collector() as collector, ModelServer(script=_script, strict=True) as model:
        tracing = {
            "AGENT_TRACING": "otlp,file",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-team=desk",
        }
        agent = _AGENT.replace("PYTHON", repr(sys.executable))
        program = checkout(folder, agent, model, LOGNAME="ada", **tracing | {"OPENAI_API_KEY": _SECRET})
        (program.folder / "stock.py").write_text(_STOCK)
        with serving(program) as served:
            yield Traced(program, served, collector)
        program("engine", "stop")


def test_one_trace_has_the_request_the_killed_worker_and_the_decision_of_another_process(traced: Traced) -> None:
    traced.asked("hello")  # which is remembered, so that the next turn looks for it
    session, asked = traced.asked("refund order 7", traceparent=f"00-{_CALLER[0]}-{_CALLER[1]}-01")
    assert [item.type for item in asked.output][-1] == "mcp_approval_request"
    traced.of_turn(session, "turn", "POST /v1/responses")
    decided = traced.program("approve", session, "--json").json
    assert decided["answer"] == "That is done, as a secret answer."
    found = traced.of_turn(session, "turn", "go on", "decide", "ask")
    spans = [span for each in found.values() for span in each]

    assert {span.trace_id for span in spans} == {_CALLER[0]}
    known = {span.span_id: span for span in spans}
    # Of the attempt that was killed there is what had ended, and not what it was in the middle of: its agent.
    outside = [span for span in spans if span.parent_id not in known]
    assert [span.name for span in outside if span.parent_id == _CALLER[1]] == ["POST /v1/responses"]
    assert {span.name for span in outside if span.parent_id != _CALLER[1]} == {
        f"chat {desk_model(found)}",
        "guardrail polite",
        "tools/list stock",
    }
    assert len({span.span_id for span in spans}) == len(spans)

    (request,), (ask,), (turn,), (decide,), (go_on,) = (
        found[name] for name in ("POST /v1/responses", "ask", "turn", "decide", "go on")
    )
    assert request.parent_id == _CALLER[1] and request.attributes["http.response.status_code"] == 200
    assert (ask.parent_id, turn.parent_id) == (request.span_id, ask.span_id)
    assert (decide.parent_id, go_on.parent_id) == (ask.span_id, decide.span_id)
    assert [span.service for span in (request, ask, turn, decide, go_on)] == [
        "flame-agent-server",
        "flame-agent-server",
        "flame-agent",
        "flame-agent-client",
        "flame-agent",
    ]
    assert (turn.attributes["flame.outcome"], go_on.attributes["flame.outcome"]) == ("waiting", "answered")
    assert turn.attributes["flame.attempt"] == 2
    (lost,) = found["lost attempt"]
    assert lost.parent_id == turn.span_id and lost.failed and "SIGKILL" in lost.message
    assert turn.start <= lost.start < lost.end <= turn.end
    assert all(lost.start <= span.start <= lost.end for span in outside if span.parent_id != _CALLER[1])

    def below(span: Span) -> list[str]:
        return sorted(each.name for each in spans if each.parent_id == span.span_id)

    assert {"read conversation", "search memory"} <= set(below(lost))
    parts = {"wait for an instance", "wait for a worker", "read conversation", "append", "search memory"}
    assert parts <= set(below(turn))
    assert {"wait for an instance", "append", "record decision", "remember turn"} <= set(below(go_on))
    (desk,) = (each for each in found["invoke_agent desk"] if each.parent_id == turn.span_id)
    assert {"chat gpt", "execute_tool look_up", "execute_tool count", "guardrail polite"} <= {
        name.replace(desk_model(found), "gpt") for name in below(desk)
    }
    assert "handoff desk → clerk" in below(desk) and "tools/list stock" in found
    (count,) = found["execute_tool count"]
    assert count.attributes["flame.mcp.server"] == "stock" and count.attributes["mcp.method.name"] == "tools/call"
    wanted, refunded = sorted(found["execute_tool refund"], key=lambda span: span.start)  # asked for, and then run
    assert wanted.end < decide.start < refunded.start
    assert "gen_ai.tool.call.id" in refunded.attributes and "gen_ai.tool.call.id" not in wanted.attributes
    (first, *_) = (each for each in found[f"chat {desk_model(found)}"] if each.parent_id == desk.span_id)
    told = first.attributes
    assert told["gen_ai.operation.name"] == "chat" and told["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert told["gen_ai.usage.input_tokens"] > 0 and "gen_ai.usage.output_tokens" in told
    assert told["server.address"] == "127.0.0.1"
    assert all(headers["x-team"] == "desk" for headers in traced.collector.headers)


def desk_model(found: dict[str, list[Span]]) -> str:
    """The name of the model."""
    (name, *_) = (name for name in found if name.startswith("chat "))
    return name.removeprefix("chat ")


def test_a_tool_that_fails_has_failed_in_its_trace_and_no_key_leaves(traced: Traced) -> None:
    session, _ = traced.asked("break order 8")
    found = traced.of_turn(session, "turn", "execute_tool break_it")
    (broken,) = found["execute_tool break_it"]
    assert broken.failed and broken.attributes["error.type"] == "RuntimeError"
    assert "it broke" not in broken.message  # which is text
    assert not found["turn"][0].failed
    failed = traced.program("-m", "fail", "--json", code=1)
    traced.collector.wait(lambda spans: any(span.name == "turn" and span.failed for span in spans))
    assert failed.error["code"] == "model"
    (turn,) = [span for span in traced.collector.spans if span.name == "turn" and span.failed]
    assert turn.attributes["error.type"] == "model"
    assert not any(_SECRET.encode() in data for data in traced.collector.bytes)
    assert not any(b"x-team" in data for data in traced.collector.bytes)


def test_texts_are_in_traces_only_where_they_are_wanted(traced: Traced) -> None:
    assert not any(b"secret answer" in data or b"a kettle" in data for data in traced.collector.bytes)
    before = len(traced.collector.bytes)
    asked = traced.program.having(AGENT_TRACE_CONTENT="1")("-m", "break order 8", "--json").json
    found = traced.of_turn(asked["session_id"], "turn")
    (model, *_) = (span for name in found if name.startswith("chat ") for span in found[name])
    assert "break order 8" in model.attributes["gen_ai.input.messages"]
    (broken,) = found["execute_tool break_it"]
    assert broken.attributes["gen_ai.tool.call.arguments"] == '{"order": 8}'
    assert "it broke with key [key]" in broken.message
    assert not any(_SECRET.encode() in data for data in traced.collector.bytes[before:])


def test_the_file_shows_the_same(traced: Traced) -> None:
    session, _ = traced.asked("hello again")
    traced.of_turn(session, "turn", "ask")
    part = session.rpartition("-")[2]
    shown = eventually(lambda: "POST" in (found := traced.program("trace", part)).out and found)
    lines = shown.out.splitlines()
    assert lines[0].startswith(f"{session} · turn 1 · ") and "answered" in lines[0]
    names = [line.lstrip(" │├└").split("  ")[0] for line in lines[1:4]]
    assert names == ["POST /v1/responses", "ask", "open session"]
    spans = traced.program("trace", part, "1", "--json").json
    check("trace", spans)
    assert {span["name"] for span in spans} == {span.name for span in traced.collector.of(session)}
    assert traced.program("trace", "nothing", "--json", code=4).error["code"] == "no_session"
    assert "these there is: 1" in traced.program("trace", part, "9", code=2).err
    page = traced.program.folder / "trace.html"
    traced.program("trace", part, "--html", "-o", str(page))
    assert "invoke_agent desk" in page.read_text() and not Path(page).read_text().count('http-equiv="refresh"')
