"""The agent over HTTP as people write it by hand: a route of FastAPI, the Agents SDK, its SQLiteSession in a file.

`python -m benchmarks.naive_http FILE PORT` serves on loopback until it is ended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from agents import OpenAIChatCompletionsModel, RunConfig, Runner, SQLiteSession, set_tracing_disabled
from fastapi import Body, FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

from agent import agent
from benchmarks.model import NAME

app = FastAPI()
config = RunConfig(model=OpenAIChatCompletionsModel(NAME, AsyncOpenAI()))


@app.post("/ask")
async def ask(session: str = Body(), question: str = Body(), stream: bool = Body(False)) -> Any:
    """Answer a question, or stream it."""
    kept = SQLiteSession(session, sys.argv[1])
    result = Runner.run_streamed(agent, question, session=kept, run_config=config)

    async def events() -> AsyncIterator[str]:
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                yield f"data: {json.dumps({'text': event.data.delta})}\n\n"

    if stream:
        return StreamingResponse(events(), media_type="text/event-stream")
    async for _ in events():
        pass
    return {"answer": str(result.final_output)}


@app.post("/fill")
async def fill(session: str = Body(), items: list[Any] = Body()) -> None:  # noqa: B008
    """Have a session begin with these items."""
    await SQLiteSession(session, sys.argv[1]).add_items(items)


if __name__ == "__main__":
    set_tracing_disabled(True)
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
