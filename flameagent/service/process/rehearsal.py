"""A rehearsal: a conversation that nobody has asked for, of an agent of our own, with a model on loopback and its
objects in memory.

What turns import, make and wake up is then there before workers are forked: they begin sooner, and share it. Nothing
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

from agents import Agent, RunConfig, function_tool

from flameagent import wire
from flameagent.apis import Answer, MyContext, Question
from flameagent.flame.cache import ObjectCache
from flameagent.flame.errors import NotFound, Unreachable
from flameagent.flame.frontend import Frontend
from flameagent.flame.objects import Rows, row_of, rows_of
from flameagent.model_choice import ModelError, choose
from flameagent.network import client_options
from flameagent.service.containment import ContainingThreads
from flameagent.service.entrypoint import FlameInstance
from flameagent.service.models.build import build
from flameagent.service.process.messages import Enter, Invoke
from flamewire.object_ref import ObjectRef

_CALLS = "Call it."
"""A question that the model answers with a call of the tool, and then as any other."""
_TURNS = 12
"""Turns of each kind: Python makes itself faster where code has run eight times, and writes to the code for it."""
_SESSION = "rehearsal/rehearsal-1"
_CONTEXT = f"{_SESSION}/context"


def rehearse() -> None:
    """Run such turns, by the API that the settings choose. Raises what they raise."""
    try:
        choice = choose(os.environ)
    except ModelError:
        return  # who asks is told
    if choice.provider == "local":
        return
    with suppress(ModelError):  # who asks is told
        client_options(choice.base_url or "", os.environ)  # which reads the authorities to trust
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ContainingThreads())
    try:
        loop.run_until_complete(_turns(choice.api))
    finally:
        loop.run_until_complete(_end_tasks())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        build.cache_clear()
        gc.collect()


async def _turns(api: str) -> None:
    async with await asyncio.start_server(_converse, "127.0.0.1", 0) as server:
        address, port = server.sockets[0].getsockname()[:2]
        with _environment(OPENAI_BASE_URL=f"http://{address}:{port}/v1", OPENAI_API_KEY="none", AGENT_API=api):
            instance = _Instance()
            instance.entrypoint(instance.asked)
            instance.enter(Enter(_SESSION.rpartition("/")[2], "rehearsal", ObjectRef("", _CONTEXT, 1).encode()))
            try:
                for task, question in enumerate(_questions(), 1):
                    output = await instance.invoke(Invoke(str(task), wire.write(question)))
                    answer = wire.read(output, Answer)
                    if answer.error:
                        raise RuntimeError(answer.error)
            finally:
                model: Any = build(choose(os.environ))  # the same one again
                await model._client.close()


def _questions() -> Iterator[Question]:
    for turn in range(_TURNS):
        yield Question("Hello.")
        yield Question(_CALLS)
        yield Question("Hello.", stream=f"{_SESSION}/stream-{turn}")


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Instance(FlameInstance):
    """The instance of the rehearsal, with its objects in memory."""

    def _connect(self) -> ObjectCache:
        return _Cache()

    def _reached(self) -> Frontend:
        raise Unreachable("There is no Flame in a rehearsal.")

    async def asked(self, question: Question) -> Answer:
        agent = Agent[Any](name="rehearsal", instructions="Rehearse.", tools=[_tool])
        return await self.answer(agent, question, run_config=RunConfig(tracing_disabled=True))


class _Cache(ObjectCache):
    """A cache without a connection: those of gRPC start threads."""

    def __init__(self) -> None:
        self.url = "grpc://memory"
        self._objects = {_CONTEXT: [wire.write(MyContext())]}

    @property
    def reads_at_once(self) -> bool:
        return True

    def get(self, key: str, since: int = 0) -> Rows:
        if key not in self._objects:
            raise NotFound(f"object <{key}> not found")
        rows = [(number, number == 1, row_of(data)) for number, data in enumerate(self._objects[key], 1)]
        return rows_of(rows[since:])

    def delete(self, prefix: str) -> None:
        self._objects.pop(prefix, None)

    def put_as(self, key: str, data: bytes) -> ObjectRef:
        return ObjectRef(self.url, key, self._append(key, data))

    def patch(self, key: str, data: bytes) -> int:
        return self._append(key, data)

    def _append(self, key: str, data: bytes) -> int:
        rows = self._objects.setdefault(key, [])
        rows.append(data)
        return len(rows)


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
