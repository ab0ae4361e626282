"""A rehearsal: turns that nobody has asked for, of an agent of our own, with a model on loopback.

What a first turn imports and makes is then there before workers are forked: they begin sooner, and share it. Nothing
of it stays but that: no thread, no descriptor, no connection, and the environment is as it was.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from agents import Agent, RunConfig, Runner, function_tool

from flameagent.apis import Question
from flameagent.model_choice import ModelError, choose
from flameagent.service.models.build import build
from flameagent.service.run import answer

_CALLS = "Call it."
"""A question that the model answers with a call of the tool, and then as any other."""


def rehearse() -> None:
    """Run such turns, by the API that the settings choose. Raises what they raise."""
    try:
        choice = choose(os.environ)
    except ModelError:
        return  # who asks is told
    if choice.provider == "local":
        return
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(_turns(choice.api))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        build.cache_clear()
        gc.collect()


async def _turns(api: str) -> None:
    server = await asyncio.start_server(_converse, "127.0.0.1", 0)
    address, port = server.sockets[0].getsockname()[:2]
    with _environment(OPENAI_BASE_URL=f"http://{address}:{port}/v1", OPENAI_API_KEY="none", AGENT_API=api):
        agent = Agent[Any](name="rehearsal", instructions="Rehearse.", tools=[_tool])
        for question in ("Hello.", _CALLS):
            await answer(agent, Question(question), None, None, {"run_config": RunConfig(tracing_disabled=True)})
        model: Any = build(choose(os.environ))  # the same one again
        running = Runner.run_streamed(agent, "Hello.", run_config=RunConfig(model=model, tracing_disabled=True))
        async for _ in running.stream_events():
            pass
        await model._client.close()
    server.close()
    await server.wait_closed()


@function_tool
def _tool() -> str:
    return "done"


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A model's server, on both APIs: as much of one as the Agents SDK and openai's client need."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next(line for line in head.splitlines() if line.startswith("content-length:"))
            request = json.loads(await reader.readexactly(int(length.partition(":")[2])))
            said = request.get("messages") or request["input"]
            calls = isinstance(said, list) and said[-1].get("content") == _CALLS
            whole = _completion(calls) if "messages" in request else _response(calls)
            kind, body = "application/json", json.dumps(whole)
            if request.get("stream"):
                chunk = _chunk(whole) if "messages" in request else {"type": "response.completed", "response": whole}
                kind, body = "text/event-stream", f"data: {json.dumps(chunk)}\n\n"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n" % kind.encode())
            writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body.encode()))
            await writer.drain()
    writer.close()


def _completion(calls: bool) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": _tool.name, "arguments": "{}"}}
    message = {"role": "assistant", "content": None if calls else "Hello."} | (
        {"tool_calls": [call]} if calls else {}
    )
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def _chunk(whole: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "delta": whole["choices"][0]["message"], "finish_reason": "stop"}
    return {**whole, "object": "chat.completion.chunk", "choices": [choice]}


def _response(calls: bool) -> dict[str, Any]:
    text = {"type": "output_text", "text": "Hello.", "annotations": []}
    message = {"id": "m_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    call = {"id": "f_1", "type": "function_call", "call_id": "call_1", "name": _tool.name, "arguments": "{}"}
    tokens = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    head = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed", "tools": []}
    how = {"parallel_tool_calls": True, "tool_choice": "auto"}
    return {**head, **how, "output": [call if calls else message], "usage": {**tokens, **details}}


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Only those variables, and no way to the server but the direct one."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
