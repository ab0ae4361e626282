"""A model's server that answers by a script, on loopback over real HTTP: chat completions and Responses.

Records every request. Without a script it answers with what it was asked, so that a test sees what a
model would have seen. By hand: `python -m tests.support.model_server --port 0` prints its URL.
"""

import argparse
import contextlib
import hashlib
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self


@dataclass(frozen=True)
class Call:
    """A tool call; `arguments` is sent as it is, so that it can be invalid JSON."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"


@dataclass(frozen=True)
class Step:
    """One answer: text and calls as a model gives them, or what a bad server does instead."""

    text: str | None = None
    calls: tuple[Call, ...] = ()
    refusal: str | None = None
    reasoning: str | None = None
    finish: str | None = None  # None: what fits
    delay: float = 0.0  # seconds before the answer
    chunk_delay: float = 0.0  # seconds before each chunk of a stream
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None  # sent instead of an answer, with `content_type`
    content_type: str = "application/json"
    choices: bool = True
    usage: bool = True
    broken: Literal["", "length", "chunked", "silent"] = ""  # how it breaks off: see `_send`


_ANSWERS = ("/chat/completions", "/responses")

Script = Callable[[dict[str, Any]], Step]


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]  # names in lower case
    json: dict[str, Any]
    client: int  # the port of the connection


def error(status: int, message: str = "scripted", code: str | None = None, **headers: str) -> Step:
    """A step that answers an error as OpenAI does; `Retry_After="1"` becomes a header."""
    body = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": code}})
    return Step(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def echo(request: dict[str, Any]) -> Step:
    """Answer with the number of the user's messages and the last of them; what is remembered is none."""
    asked = [text for role, text in said(request) if role == "user" and not text.startswith("<memory>")]
    return Step(text=f"answer {len(asked)}: {asked[-1] if asked else ''}")


_MEANINGS = (
    ("cat kitten pet Mimi", "thunder storm lightning", "afraid fears scared"),
    ("Lisbon Porto city live home", "moved"),
    ("bakery bread job living work", "sister"),
)
"""Words that mean much the same, of things that have to do with each other."""


def meaning(text: str) -> list[float]:
    """A vector of what a text means: words that mean the same count as one, and those beside them a little."""
    spoken = set(re.findall(r"\w+", text.casefold()))
    vector = []
    for near in _MEANINGS:
        found = [float(len(spoken & set(words.casefold().split())) > 0) for words in near]
        vector += [each + 0.1 * sum(found) for each in found]
    rest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:2]) / 2**16
    return [*vector, 0.3 * rest, 0.3 * (1 - rest)]


def embeddings(request: dict[str, Any]) -> dict[str, Any]:
    """What `/embeddings` answers, in another order than the texts had."""
    data = [
        {"object": "embedding", "index": index, "embedding": meaning(text)}
        for index, text in enumerate(request["input"])
    ]
    return {"object": "list", "model": request["model"], "data": data[::-1]}


def said(request: dict[str, Any]) -> list[tuple[str, str]]:
    """Who says what in a request of either API, the system prompt apart."""
    messages = request["messages"] if "messages" in request else request["input"]
    if isinstance(messages, str):
        return [("user", messages)]
    return [
        (message["role"], _text(message.get("content")))
        for message in messages
        if message.get("role", "system") not in {"system", "developer"}
    ]


def _text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(part.get("text", "") for part in content)


class ModelServer:
    """The server, running inside `with`; `url` is a base URL for a client.

    `steps` are given first, one a request, then `script` answers. `strict` refuses what OpenAI refuses:
    calls without outputs, outputs without calls, IDs that are used twice, and on the Responses API what it
    knows nothing of; and what a server refuses that parses its history: text that is no UTF-8, and arguments that are
    no JSON object. `ids` is what it takes of call IDs, `fields` what of a message and a call beside the usual.
    `account` is whose reasoning it can decrypt; `reasons` whether it encrypts any. `vectors` are the steps that are
    given first of `/embeddings`, which otherwise has a vector for each text by `meaning`.
    """

    def __init__(
        self, steps: Iterable[Step] = (), script: Script = echo, *, strict: bool = False, port: int = 0
    ) -> None:
        self.steps = deque(steps)
        self.script = script
        self.strict = strict
        self.ids = re.compile(r".{1,40}")
        self.fields: set[str] = set()
        self.account = "a"
        self.reasons = True
        self.stored: set[str] = set()
        self.vectors: deque[Step] = deque()
        self.requests: list[Request] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._http.daemon_threads = True
        self._stopped = threading.Event()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()

    def serve_forever(self) -> None:
        self._http.serve_forever()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The requests for an answer so far."""
        return [request.json for request in self.requests if request.path.endswith(_ANSWERS)]

    @property
    def embedded(self) -> list[str]:
        """The texts whose vectors were asked for so far."""
        asked = [request.json["input"] for request in self.requests if request.path.endswith("/embeddings")]
        return [text for texts in asked for text in texts]

    def next_step(self, request: dict[str, Any]) -> Step:
        if self.strict and (refused := _refused(self, request)):
            return refused
        try:
            return self.steps.popleft()
        except IndexError:
            return self.script(request)

    def wait(self, seconds: float) -> None:
        self._stopped.wait(seconds)


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are written apart: 40 ms a request otherwise

        def do_GET(self) -> None:
            _record(self, server, {})
            if self.path.endswith("/models"):
                models = {"object": "list", "data": [{"id": "scripted", "object": "model"}]}
                _send(self, Step(body=json.dumps(models)))
            else:
                _send(self, error(404, "no such path"))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            _record(self, server, request)
            if self.path.endswith("/embeddings"):
                step = server.vectors.popleft() if server.vectors else Step(body=json.dumps(embeddings(request)))
            elif self.path.endswith(_ANSWERS):
                step = server.next_step(request)
            else:
                _send(self, error(404, "no such path"))
                return
            server.wait(step.delay)
            try:
                if step.body is not None:
                    _send(self, step)
                elif request.get("stream"):
                    _stream(self, server, step, request)
                else:
                    _send(self, step, json.dumps(_answer(server, step, request)))
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client gave up: its timeout is what the test is about

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _record(handler: BaseHTTPRequestHandler, server: ModelServer, body: dict[str, Any]) -> None:
    headers = {name.lower(): value for name, value in handler.headers.items()}
    server.requests.append(Request(handler.path, headers, body, handler.client_address[1]))


def _send(handler: BaseHTTPRequestHandler, step: Step, body: str = "") -> None:
    """Send a whole body; broken by `length` it ends early, by `silent` before its first byte."""
    data = (step.body if step.body is not None else body).encode()
    if step.broken == "silent":
        handler.close_connection = True
        return
    handler.send_response(step.status)
    handler.send_header("Content-Type", step.content_type)
    handler.send_header("Content-Length", str(len(data)))
    for name, value in step.headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    if step.broken:
        handler.wfile.write(data[: len(data) // 2])
        handler.close_connection = True
        return
    handler.wfile.write(data)


def _stream(handler: BaseHTTPRequestHandler, server: ModelServer, step: Step, request: dict[str, Any]) -> None:
    """Send server-sent events.

    Broken by `chunked` the stream ends without HTTP's last chunk; by `length` HTTP ends well and the
    model's answer does not.
    """
    handler.send_response(step.status)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Transfer-Encoding", "chunked")
    for name, value in step.headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    is_chat = "messages" in request
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in _chunks(step, request)] if is_chat else []
    if not is_chat:
        events = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in _events(server, step, request)]
    if step.broken:
        events = events[: max(len(events) // 2, 1)]
    elif is_chat:
        events.append("data: [DONE]\n\n")
    for event in events:
        server.wait(step.chunk_delay)
        _write_chunk(handler, event.encode())
    if step.broken == "chunked":
        handler.close_connection = True
        return
    _write_chunk(handler, b"")


def _write_chunk(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _answer(server: ModelServer, step: Step, request: dict[str, Any]) -> dict[str, Any]:
    return _completion(step, request) if "messages" in request else _response(server, step, request)


def _completion(step: Step, request: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": step.text, "refusal": step.refusal}
    if step.reasoning:
        message["reasoning_content"] = step.reasoning
    if step.calls:
        message["tool_calls"] = [_tool_call(call) for call in step.calls]
    choice = {"index": 0, "message": message, "finish_reason": _finish(step), "logprobs": None}
    answer = _envelope("chat.completion", request) | {"choices": [choice] if step.choices else []}
    return answer | ({"usage": _usage(step, request)} if step.usage else {})


def _chunks(step: Step, request: dict[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in _pieces(step.reasoning or "")]
    deltas += [{"content": piece} for piece in _pieces(step.text or "")]
    if step.refusal:
        deltas.append({"refusal": step.refusal})
    for index, call in enumerate(step.calls):
        whole = _tool_call(call) | {"index": index}
        half = len(call.arguments) // 2
        first, second = call.arguments[:half], call.arguments[half:]
        deltas.append({"tool_calls": [whole | {"function": {"name": call.name, "arguments": first}}]})
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": second}}]})
    envelope = _envelope("chat.completion.chunk", request)
    choices: list[list[dict[str, Any]]] = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    choices.append([{"index": 0, "delta": {}, "finish_reason": _finish(step)}])
    chunks = [envelope | {"choices": choice if step.choices else []} for choice in choices]
    if step.usage and (request.get("stream_options") or {}).get("include_usage"):
        chunks.append(envelope | {"choices": [], "usage": _usage(step, request)})
    return chunks


def _pieces(text: str) -> list[str]:
    return [text[at : at + 8] for at in range(0, len(text), 8)]


def _envelope(kind: str, request: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": int(time.time()), "model": request.get("model")}


def _tool_call(call: Call) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _finish(step: Step) -> str:
    return step.finish or ("tool_calls" if step.calls else "stop")


def _usage(step: Step, request: dict[str, Any]) -> dict[str, int]:
    """Count words, so that a test can expect the numbers."""
    prompt = sum(len(str(message.get("content") or "").split()) for message in request["messages"])
    completion = len((step.text or "").split())
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _response(server: ModelServer, step: Step, request: dict[str, Any]) -> dict[str, Any]:
    """The same answer as the Responses API gives it."""
    stored = request.get("store") is not False
    output = _output(server, step, request) if step.choices else []
    if stored:
        server.stored.update(item["id"] for item in output)
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(step.finish or "")
    answer: dict[str, Any] = {
        "id": f"resp_{len(server.requests)}",
        "object": "response",
        "created_at": int(time.time()),
        "model": request.get("model"),
        "status": "failed" if step.finish == "failed" else "incomplete" if reason else "completed",
        "error": {"code": "server_error", "message": step.text} if step.finish == "failed" else None,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "store": stored,
    }
    return answer | ({"usage": _response_usage(step, request)} if step.usage else {})


def _output(server: ModelServer, step: Step, request: dict[str, Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    number = len(server.requests)
    if step.reasoning:
        summary = [{"type": "summary_text", "text": step.reasoning}]
        items.append({"type": "reasoning", "id": f"rs_{number}", "summary": summary})
        if "reasoning.encrypted_content" in (request.get("include") or []):
            items[0]["encrypted_content"] = f"{server.account}:{step.reasoning}"
    content: list[dict[str, Any]] = []
    if step.text is not None and step.finish != "failed":
        content.append({"type": "output_text", "text": step.text, "annotations": [], "logprobs": []})
    if step.refusal:
        content.append({"type": "refusal", "refusal": step.refusal})
    if content:
        message = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed"}
        items.append(message | {"content": content})
    for index, call in enumerate(step.calls):
        whole = {"name": call.name, "arguments": call.arguments, "call_id": call.id, "status": "completed"}
        items.append({"type": "function_call", "id": f"fc_{number}_{index}"} | whole)
    return items


def _events(server: ModelServer, step: Step, request: dict[str, Any]) -> list[dict[str, Any]]:
    answer = _response(server, step, request)
    begun = answer | {"status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(answer["output"]):
        place = {"item_id": item["id"], "output_index": index}
        empty = item | {key: [] for key in ("content", "summary") if key in item} | {"status": "in_progress"}
        events.append({"type": "response.output_item.added", "output_index": index, "item": empty})
        for at, part in enumerate(item.get("content", [])):
            if part["type"] == "output_text":
                delta = place | {"type": "response.output_text.delta", "content_index": at, "logprobs": []}
                events += [delta | {"delta": piece} for piece in _pieces(part["text"])]
        if item["type"] == "function_call":
            delta = place | {"type": "response.function_call_arguments.delta"}
            events += [delta | {"delta": piece} for piece in _pieces(item["arguments"])]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": f"response.{answer['status']}", "response": answer})
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


def _response_usage(step: Step, request: dict[str, Any]) -> dict[str, Any]:
    prompt = len((request.get("instructions") or "").split())
    prompt += sum(len(text.split()) for _, text in said(request))
    completion = len((step.text or "").split())
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }


def _refused(server: ModelServer, request: dict[str, Any]) -> Step | None:
    try:
        json.dumps(request, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return error(400, "The request is no UTF-8.")
    if "messages" in request:
        complaint = _complaint(request["messages"]) or _shape_complaint(server, request["messages"])
        return error(400, complaint, "invalid_request_error") if complaint else None
    if "reasoning.encrypted_content" in (request.get("include") or []) and not server.reasons:
        return error(400, "Encrypted content is not supported with this model.")
    items = request["input"] if isinstance(request["input"], list) else []
    for item in items:
        encrypted = item.get("encrypted_content")
        if encrypted and not encrypted.startswith(f"{server.account}:"):
            return error(400, "The encrypted content could not be verified.", "invalid_encrypted_content")
    complaint = _items_complaint(items, server.stored) or _calls_complaint(server, items)
    return error(400, complaint, "invalid_request_error") if complaint else None


_MESSAGE = {"role", "content", "refusal", "tool_calls", "tool_call_id", "name"}
_PARTS = {"text", "image_url", "input_audio", "file", "refusal"}
_INPUT_PARTS = {"input_text", "input_image", "input_file", "output_text", "refusal"}


def _shape_complaint(server: ModelServer, messages: list[dict[str, Any]]) -> str | None:
    """Return what is wrong with single messages."""
    for at, message in enumerate(messages):
        if unknown := set(message) - _MESSAGE - server.fields:
            return f"messages[{at}]: property '{sorted(unknown)[0]}' is unsupported"
        content = message.get("content")
        if not isinstance(content, str) and not message.get("tool_calls"):
            if not isinstance(content, list) or not content:
                return f"messages[{at}].content is missing"
            if wrong := [part for part in content if part.get("type") not in _PARTS]:
                return f"messages[{at}].content: {wrong[0]}"
        for call in message.get("tool_calls") or []:
            if unknown := set(call) - {"id", "type", "function"} - server.fields:
                return f"messages[{at}]: property '{sorted(unknown)[0]}' of a call is unsupported"
            if complaint := _call_complaint(server, call["id"], **call["function"]):
                return complaint
    return None


def _calls_complaint(server: ModelServer, items: list[dict[str, Any]]) -> str | None:
    """Return what is wrong with single items."""
    for at, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "function_call":
            if complaint := _call_complaint(server, item["call_id"], item["name"], item["arguments"]):
                return complaint
        elif kind in {"message", "function_call_output"}:
            content = item.get("content" if kind == "message" else "output")
            parts = content if isinstance(content, list) else []
            if not isinstance(content, str | list) or [p for p in parts if p.get("type") not in _INPUT_PARTS]:
                return f"Invalid 'input[{at}]': {content!r}"
        elif kind not in _KNOWN and kind not in _MORE:
            return f"Invalid value: '{kind}'"
    return None


def _call_complaint(server: ModelServer, call_id: str, name: str, arguments: str) -> str | None:
    if not server.ids.fullmatch(call_id):
        return f"Tool call id was {call_id} but must match {server.ids.pattern}"
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        return f"Invalid function name {name!r}"
    try:
        parsed = json.loads(arguments, parse_constant=lambda constant: [][0])
        json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, IndexError, RecursionError):
        parsed = None
    return None if isinstance(parsed, dict) else f"The arguments of {call_id} are no JSON object: {arguments!r}"


_MORE = {f"{kind}_call" for kind in ("custom_tool", "computer", "local_shell", "shell", "apply_patch", "tool_search")}
_MORE |= {f"{kind}_output" for kind in _MORE} | {"compaction", "mcp_approval_request", "mcp_approval_response"}

_KNOWN = {
    "message": {"type", "id", "role", "content", "status", "phase"},
    "reasoning": {"type", "id", "summary", "content", "encrypted_content", "status"},
    "function_call": {"type", "id", "call_id", "name", "namespace", "arguments", "status", "caller"},
    "function_call_output": {"type", "id", "call_id", "output", "status", "caller"},
}


def _items_complaint(items: list[dict[str, Any]], stored: set[str]) -> str | None:
    """Return what OpenAI's Responses API would refuse about these items."""
    called: list[str] = []
    answered: list[str] = []
    for at, item in enumerate(items):
        kind = item.get("type", "message")
        if unknown := set(item) - _KNOWN.get(kind, set(item)):
            return f"Unknown parameter: 'input[{at}].{sorted(unknown)[0]}'."
        if "id" in item and item["id"] not in stored:
            return f"Item with id '{item['id']}' not found."
        if kind == "reasoning":
            if "id" not in item and not item.get("encrypted_content"):
                return f"Missing required parameter: 'input[{at}].id'."
            if at + 1 == len(items) or items[at + 1].get("role") == "user":
                return f"Item 'input[{at}]' of type 'reasoning' was provided without its required following item."
        elif kind == "function_call":
            if item["call_id"] in called:
                return f"Duplicate item found with call_id {item['call_id']}."
            called.append(item["call_id"])
        elif kind == "function_call_output":
            if item["call_id"] not in called or item["call_id"] in answered:
                return f"No tool call found for function call output with call_id {item['call_id']}."
            answered.append(item["call_id"])
    if missing := [call for call in called if call not in answered]:
        return f"No tool output found for function call {missing[0]}."
    return None


def _complaint(messages: list[dict[str, Any]]) -> str | None:
    """Return what OpenAI would refuse about the tool calls in these messages."""
    seen: set[str] = set()
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                return "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            break
        waiting = [call["id"] for call in message.get("tool_calls") or []]
        if len({*waiting}) < len(waiting) or seen & {*waiting}:
            return f"Duplicate value for 'tool_call_id' of {', '.join(waiting)} in 'messages'."
        seen.update(waiting)
    if waiting:
        return (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. These had no response: {', '.join(waiting)}"
        )
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--strict", action="store_true", help="refuse what OpenAI refuses")
    options = parser.parse_args()
    server = ModelServer(strict=options.strict, port=options.port)
    print(server.url, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
