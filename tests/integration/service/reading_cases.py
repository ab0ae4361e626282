"""What servers send in answer to a question, by kind, and what comes of it: the same streamed or whole.

A case is a body as it goes over the wire, and its outcome: texts and calls, or a part of the sentence that the user
reads. Who sends such things, where that is known: docs/providers.md.
"""

from __future__ import annotations

import json
from typing import Any

Outcome = list[Any] | str

SAYS = "out of cake"
HELLO: Outcome = ["hello"]
ADD = {"name": "add", "arguments": '{"a":1}'}
TWO: Outcome = [("add", '{"a":1}'), ("add", '{"a":2}')]


def sse(*values: Any, end: str = "\n\n", field: str = "data: ") -> str:
    return "".join(f"{field}{value if isinstance(value, str) else json.dumps(value)}{end}" for value in values)


def chunk(delta: Any = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta if delta is not None else {}, "finish_reason": finish}], **more}


def whole(message: Any, finish: str | None = "stop", **more: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more})


def calls(*pieces: Any, finish: str = "tool_calls") -> str:
    """A stream of one piece of a call a chunk; several where a list is given."""
    lists = [piece if isinstance(piece, list) else [piece] for piece in pieces]
    return sse(*(chunk({"tool_calls": pieces}) for pieces in lists), chunk(finish=finish), "[DONE]")


def piece(arguments: Any = None, name: str | None = None, id: Any = None, index: Any = 0) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": id, "type": "function", "function": function}


def bare(**fields: Any) -> dict[str, Any]:
    """A piece that has what is given and nothing else."""
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return fields | {"function": function}


def shown(arguments: Any) -> Any:
    return {"content": None, "tool_calls": [{"id": "c", "function": {"name": "add", "arguments": arguments}}]}


A, B = '{"a":1}', '{"a":2}'

CALLS: dict[str, tuple[str, Outcome]] = {
    "as OpenAI sends them": (
        calls(piece("", "add", "c1", 0), piece('{"a"', index=0), piece(":1}", index=0), piece(B, "add", "c2", 1)),
        TWO,
    ),
    "index 0 for both": (calls(piece(A, "add", "c1"), piece(B, "add", "c2")), TWO),
    "index 0 for both, in fragments": (
        calls(
            piece("", "add", "c1"), piece('{"a"'), piece(":1}"), piece("", "add", "c2"), piece('{"a":'), piece("2}")
        ),
        TWO,
    ),
    "index 0 for both, in one chunk": (calls([piece(A, "add", "c1"), piece(B, "add", "c2")]), TWO),
    "index 0 and one ID for both": (calls(piece(A, "add", "c"), piece(B, "add", "c")), TWO),
    "index 0 and one ID for both, in fragments": (
        calls(piece('{"a":', "add", "c"), piece("1}"), piece('{"a":', "add", "c"), piece("2}")),
        TWO,
    ),
    "index 0 and one ID for both, the name first": (
        calls(piece("", "add", "c"), piece(A), piece("", "add", "c"), piece(B)),
        TWO,
    ),
    "no index": (calls(bare(id="c1", name="add", arguments=A), bare(id="c2", name="add", arguments=B)), TWO),
    "no index, in fragments": (
        calls(
            bare(id="c1", name="add", arguments=""),
            bare(arguments='{"a":'),
            bare(arguments="1}"),
            bare(id="c2", name="add", arguments=""),
            bare(arguments=B),
        ),
        TWO,
    ),
    "index null": (calls(piece(A, "add", "c1", None), piece(B, "add", "c2", None)), TWO),
    "index null behind a number": (
        calls(piece("", "add", "c1", 0), piece(A, index=None), piece("", "add", "c2", 1), piece(B, index=None)),
        TWO,
    ),
    "index a text": (
        calls(piece("", "add", "c1", "0"), piece("", "add", "c2", "1"), piece(A, index="0"), piece(B, index="1")),
        TWO,
    ),
    "index from 1": (
        calls(piece("", "add", "c1", 1), piece("", "add", "c2", 2), piece(A, index=1), piece(B, index=2)),
        TWO,
    ),
    "interleaved by index": (
        calls(
            piece("", "add", "c1", 0),
            piece("", "add", "c2", 1),
            piece('{"a":', index=0),
            piece('{"a":', index=1),
            piece("1}", index=0),
            piece("2}", index=1),
        ),
        TWO,
    ),
    "interleaved by ID": (
        calls(
            piece("", "add", "c1"),
            piece("", "add", "c2"),
            piece('{"a":', id="c1"),
            piece('{"a":', id="c2"),
            piece("1}", id="c1"),
            piece("2}", id="c2"),
        ),
        TWO,
    ),
    "the ID in each piece": (
        calls(piece("", "add", "c1"), piece(A, id="c1"), piece("", "add", "c2"), piece(B, id="c2")),
        TWO,
    ),
    "ID and name in each piece": (
        calls(
            piece("", "add", "c1"),
            piece('{"a":', "add", "c1"),
            piece("1}", "add", "c1"),
            piece('{"a":', "add", "c2"),
            piece("2}", "add", "c2"),
        ),
        TWO,
    ),
    "an empty ID and name in each piece": (
        calls(piece("", "add", "c1"), piece(A, "", ""), piece("", "add", "c2"), piece(B, "", "")),
        TWO,
    ),
    "another ID in each piece": (
        calls(piece('{"a"', "add", "x1", 0), piece(":1}", id="x2", index=0), piece(B, "add", "x3", 1)),
        TWO,
    ),
    "no ID": (calls(piece(A, "add", index=0), piece(B, "add", index=1)), TWO),
    "no ID and no index": (calls(bare(name="add", arguments=A), bare(name="add", arguments=B)), TWO),
    "no ID and no index, in fragments": (
        calls(
            bare(name="add", arguments=""),
            bare(arguments=A),
            bare(name="add", arguments=""),
            bare(arguments='{"a":'),
            bare(arguments="2}"),
        ),
        TWO,
    ),
    "no ID and no index, in one chunk": (calls([bare(name="add", arguments=A), bare(name="add", arguments=B)]), TWO),
    "equal calls without an ID": (
        calls(bare(name="add", arguments=A), bare(name="add", arguments=A)),
        [("add", A), ("add", A)],
    ),
    "equal calls with one ID in one chunk": (
        calls([piece(A, "add", "c"), piece(A, "add", "c")]),
        [("add", A), ("add", A)],
    ),
    "equal calls with IDs": (calls(piece(A, "add", "c1"), piece(A, "add", "c2")), [("add", A), ("add", A)]),
    "another name and the same ID": (
        calls(piece(A, "add", "c"), piece(B, "sub", "c")),
        [("add", A), ("sub", B)],
    ),
    "a number for an ID": (calls(piece(A, "add", 0), piece(B, "add", 1)), TWO),
    "calls without arguments": (
        calls(piece("", "now", "c1"), piece("", "now", "c2")),
        [("now", "{}"), ("now", "{}")],
    ),
    "arguments null": (calls(piece(None, "now", "c1")), [("now", "{}")]),
    "arguments an object": (
        calls(piece({"a": 1}, "add", "c1"), piece({"a": 2}, "add", "c2")),
        [
            ("add", '{"a": 1}'),
            ("add", '{"a": 2}'),
        ],
    ),
    "arguments an empty list": (calls(piece([], "now", "c1")), [("now", "{}")]),
    "arguments given again whole": (
        calls(piece("", "add", "c1"), piece('{"a"', id="c1"), piece(":1}", id="c1"), piece(A, "add", "c1")),
        [("add", A)],
    ),
    "arguments given again whole, spaced": (
        calls(piece(A, "add", "c1"), piece('{ "a": 1 }', "add", "c1")),
        [("add", A)],
    ),
    "arguments that grow": (
        calls(piece('{"a"', "add", "c1"), piece('{"a":1', "add", "c1"), piece(A, "add", "c1")),
        [("add", A)],
    ),
    "the name behind the ID": (calls(piece(None, None, "c1"), piece("", "add"), piece(A)), [("add", A)]),
    "nothing behind the end": (calls(piece(A, "add", "c1"), piece("", "add", "c1"), piece("")), [("add", A)]),
    "no wrapper": (calls({"index": 0, "id": "c1", **ADD}), [("add", A)]),
    "function_call": (
        sse(
            chunk({"function_call": {"name": "add", "arguments": ""}}),
            chunk({"function_call": {"arguments": '{"a":'}}),
            chunk({"function_call": {"arguments": "1}"}}),
            chunk(finish="function_call"),
            "[DONE]",
        ),
        [("add", A)],
    ),
    "function_call whole": (whole({"content": None, "function_call": ADD}, "function_call"), [("add", A)]),
    "whole as OpenAI sends them": (
        whole({"content": None, "tool_calls": [piece(A, "add", "c1"), piece(B, "add", "c2")]}, "tool_calls"),
        TWO,
    ),
    "whole, index and ID the same": (
        whole({"tool_calls": [piece(A, "add", "c", 0), piece(B, "add", "c", 0)]}, "tool_calls"),
        TWO,
    ),
    "whole, no ID": (whole({"tool_calls": [bare(**ADD), bare(name="add", arguments=B)]}, "stop"), TWO),
    "whole, an object": (whole(shown({"a": 1})), [("add", '{"a": 1}')]),
    "whole, null": (whole(shown(None)), [("add", "{}")]),
    "whole, a text": (whole(shown("")), [("add", "{}")]),
    "whole behind its pieces": (
        sse(
            chunk({"tool_calls": [piece("", "add", "c1")]}),
            chunk({"tool_calls": [piece(A)]}),
            json.loads(whole({"content": "", "tool_calls": [piece(A, "add", "c1")]}, "tool_calls")),
            "[DONE]",
        ),
        [("add", A)],
    ),
    "text and calls": (
        sse(
            chunk({"content": "let me"}),
            chunk({"tool_calls": [piece(A, "add", "c1")]}),
            chunk(finish="stop"),
            "[DONE]",
        ),
        ["let me", ("add", A)],
    ),
    "a half surrogate in each piece": (
        sse(
            chunk({"tool_calls": [piece('{"a":"\ud83d', "add", "c1")]}),
            chunk({"tool_calls": [piece('\ude00"}')]}),
            chunk(finish="stop"),
        ),
        [("add", '{"a":"😀"}')],
    ),
    "pieces without a name": (calls(piece(A, None, "c1")), "a tool call without a name"),
    "a second one without a name": (calls(piece(A, "add", "c1"), piece(B, None, "c2")), "a tool call without a name"),
    "whole, without a name": (whole({"tool_calls": [piece(A, "add"), piece(B)]}), "a tool call without a name"),
    "an index that nobody named": (calls(piece(A, "add", "c1", 0), piece(B, index=1)), "a tool call without a name"),
    "a call that is a text": (whole({"tool_calls": ["add"]}), "a tool call of another shape"),
    "calls that are a text": (whole({"tool_calls": "add"}), "tool calls of another shape"),
    "arguments that are a number": (whole(shown(5)), "a tool call of another shape"),
}

THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "they greet"}]}
TEXT = chunk({"content": "hello"}, "stop")

SHAPES: dict[str, tuple[str, Outcome]] = {
    "a stream": (
        sse(chunk({"role": "assistant"}), chunk({"content": "hel"}), chunk({"content": "lo"}, "stop"), "[DONE]"),
        HELLO,
    ),
    "plain JSON": (whole({"role": "assistant", "content": "hello"}), HELLO),
    "plain JSON on many lines": (json.dumps(json.loads(whole({"content": "hello"})), indent=2), HELLO),
    "plain JSON behind blank lines": ("\n\n \n" + whole({"content": "hello"}) + "\n", HELLO),
    "plain JSON with CRLF": (
        json.dumps(json.loads(whole({"content": "hello"})), indent=2).replace("\n", "\r\n"),
        HELLO,
    ),
    "plain JSON in a list": (f"[{whole({'content': 'hello'})}]", HELLO),
    "a BOM before JSON": ("\ufeff" + whole({"content": "hello"}), HELLO),
    "a BOM before events": ("\ufeff" + sse(TEXT, "[DONE]"), HELLO),
    "a BOM before each event": (
        sse(chunk({"content": "hel"}), chunk({"content": "lo"}, "stop"), field="\ufeffdata: "),
        HELLO,
    ),
    "CRLF": (sse(chunk({"content": "hel"}), chunk({"content": "lo"}, "stop"), "[DONE]", end="\r\n\r\n"), HELLO),
    "CR": (sse(chunk({"content": "hel"}), chunk({"content": "lo"}, "stop"), "[DONE]", end="\r\r"), HELLO),
    "no blank lines": (sse(chunk({"content": "hel"}), chunk({"content": "lo"}, "stop"), "[DONE]", end="\n"), HELLO),
    "no space behind data": (sse(TEXT, "[DONE]", field="data:"), HELLO),
    "comments and fields": (
        ": PROCESSING\n\nretry: 3000\n\nid: 1\nevent: message\n" + sse(TEXT) + ": ping\n\nid: 2\n\n" + sse("[DONE]"),
        HELLO,
    ),
    "an event of several lines": (
        'data: {"choices": [\ndata: {"delta": {"content": "hello"},\ndata: "finish_reason": "stop"}]}\n\n',
        HELLO,
    ),
    "an event that does not end": (sse(TEXT).rstrip("\n"), HELLO),
    "empty events": (sse("", TEXT, "", "[DONE]"), HELLO),
    "other events": (sse({"type": "ping"}, {"choices": []}, TEXT, {"x": 1}, "[DONE]"), HELLO),
    "a JSON object a line": (
        "\n".join(json.dumps(c) for c in (chunk({"content": "hel"}), chunk({"content": "lo"}, "stop"))),
        HELLO,
    ),
    "objects without anything between": (
        json.dumps(chunk({"content": "hel"})) + json.dumps(chunk({"content": "lo"}, "stop")),
        HELLO,
    ),
    "a whole message in an event": (sse(json.loads(whole({"content": "hello"})), "[DONE]"), HELLO),
    "pieces called message": (
        sse(
            *(
                {"choices": [{"message": {"content": text}, "finish_reason": f}]}
                for text, f in (("hel", None), ("lo", "stop"))
            )
        ),
        HELLO,
    ),
    "a whole message behind its pieces": (
        sse(chunk({"content": "hel"}), chunk({"content": "lo"}), json.loads(whole({"content": "hello"})), "[DONE]"),
        HELLO,
    ),
    "the API before chat": (json.dumps({"choices": [{"text": "hello", "finish_reason": "stop"}]}), HELLO),
    "no role, no ID, no model": (json.dumps({"choices": [{"message": {"content": "hello"}}]}), HELLO),
    "usage null": (whole({"content": "hello"}, usage=None), HELLO),
    "usage of another shape": (whole({"content": "hello"}, usage={"prompt_tokens": "many", "x": [1]}), HELLO),
    "usage in an event of its own": (
        sse(TEXT, {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
        HELLO,
    ),
    "everything null": (
        json.dumps(
            {
                "id": None,
                "created": None,
                "model": None,
                "usage": None,
                "error": None,
                "choices": [
                    {
                        "index": None,
                        "logprobs": None,
                        "finish_reason": "stop",
                        "message": {
                            "role": None,
                            "content": "hello",
                            "refusal": None,
                            "tool_calls": None,
                            "function_call": None,
                            "audio": None,
                            "annotations": None,
                            "reasoning_content": None,
                        },
                    }
                ],
            }
        ),
        HELLO,
    ),
    "parts": (whole({"content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}), HELLO),
    "parts in a stream": (
        sse(chunk({"content": [{"type": "text", "text": "hel"}]}), chunk({"content": "lo"}, "stop")),
        HELLO,
    ),
    "parts and thoughts": (whole({"content": [THOUGHT, {"type": "text", "text": "hello"}]}), HELLO),
    "one part without a list": (whole({"content": {"type": "text", "text": "hello"}}), HELLO),
    "only choice 0 of two": (
        sse(
            {"choices": [{"index": 0, "delta": {"content": "hello"}}, {"index": 1, "delta": {"content": "HELLO"}}]},
            {"choices": [{"index": 1, "delta": {"content": "!"}}]},
            chunk(finish="stop"),
        ),
        HELLO,
    ),
    "choice 0 as a text, and as a number": (
        sse(
            {"choices": [{"index": "0", "delta": {"content": "hel"}}]},
            {"choices": [{"index": 0, "delta": {"content": "lo"}}, {"index": "1", "delta": {"content": "HELLO"}}]},
            chunk(finish="stop"),
        ),
        HELLO,
    ),
    "half a surrogate in each piece": (
        sse(chunk({"content": "\ud83d"}), chunk({"content": "\ude00"}, "stop")),
        ["😀"],
    ),
    "half a surrogate": (whole({"content": "half a face \ud83d"}), ["half a face \ufffd"]),
    "a line separator": (
        sse(chunk({"content": "a\u2028b"}), chunk(finish="stop")).replace("\\u2028", "\u2028"),
        ["a\u2028b"],
    ),
    # How an answer ends.
    "[DONE] and no reason": (sse(chunk({"content": "hello"}), "[DONE]"), HELLO),
    "[DONE] and a reason that is empty": (sse(chunk({"content": "hello"}, ""), "[DONE]"), HELLO),
    "[DONE] and a reason that is null in a text": (sse(chunk({"content": "hello"}, "null"), "[DONE]"), HELLO),
    "[DONE] and no reason, a call": (
        sse(chunk({"tool_calls": [piece(A, "add", "c1")]}), "[DONE]"),
        [("add", A)],
    ),
    "[DONE] and no reason, half a call": (
        sse(chunk({"tool_calls": [piece('{"a"', "add", "c1")]}), "[DONE]"),
        "broke off in the middle",
    ),
    "whole without a reason, half a call": (
        whole({"tool_calls": [piece('{"a"', "add", "c1")]}, None),
        "broke off in the middle",
    ),
    "a reason and no [DONE]": (sse(TEXT), HELLO),
    "a reason in each piece": (
        sse(chunk({"content": "hel"}, "stop"), chunk({"content": "lo"}, "stop"), "[DONE]"),
        HELLO,
    ),
    "whole without a reason": (whole({"content": "hello"}, None), HELLO),
    "whole and eos": (whole({"content": "hello"}, "eos"), HELLO),
    "a reason in capitals": (whole({"content": "hello"}, "STOP"), HELLO),
    "end_turn": (sse(chunk({"content": "hello"}, "end_turn")), HELLO),
    "neither": (sse(chunk({"content": "hel"})), "broke off in the middle"),
    "neither, a call": (sse(chunk({"tool_calls": [piece(A, "add", "c1")]})), "broke off in the middle"),
    "lines that break off": (json.dumps(chunk({"content": "hel"})), "broke off in the middle"),
    "error": (sse(chunk({"content": "hel"}), chunk(finish="error"), "[DONE]"), "it ended with 'error'"),
    "error, whole": (whole({"content": "hel"}, "error"), "it ended with 'error'"),
    "error behind a call": (calls(piece(A, "add", "c1"), finish="error"), "it ended with 'error'"),
    "abort": (sse(chunk({"content": "hel"}, "abort")), "it ended with 'abort'"),
    "insufficient_system_resource": (
        whole({"content": "hel"}, "insufficient_system_resource"),
        "insufficient_system",
    ),
    "a malformed call": (whole({"content": "hel"}, "function_call_filter: MALFORMED_FUNCTION_CALL"), "it ended with"),
    "a reason that nobody knows": (sse(chunk({"content": "hel"}, "network_error"), "[DONE]"), "'network_error'"),
    "an error beside the reason": (
        sse(
            chunk({"content": "hel"}),
            chunk(finish="error", error={"code": 502, "message": "Provider died"}),
            "[DONE]",
        ),
        "answered with an error: Provider died",
    ),
    "an error in the choice": (
        json.dumps(
            {"choices": [{"message": {"content": "hel"}, "finish_reason": "error", "error": {"message": "it died"}}]}
        ),
        "answered with an error: it died",
    ),
    "an error behind the reason": (sse(TEXT, {"error": {"message": "it died"}}), "answered with an error: it died"),
    "length": (sse(chunk({"content": "hel"}, "length")), "cut off at its length limit"),
    "MAX_TOKENS": (whole({"content": "hel"}, "MAX_TOKENS"), "cut off at its length limit"),
    "model_length": (whole({"content": "hel"}, "model_length"), "cut off at its length limit"),
    "content_filter": (sse(chunk({"content": "hel"}, "content_filter")), "content filter withheld"),
    "SAFETY": (whole({"content": "hel"}, "SAFETY"), "content filter withheld"),
    "sensitive": (whole({"content": ""}, "sensitive"), "content filter withheld"),
    "a refusal": (
        sse(chunk({"refusal": "I will "}), chunk({"refusal": "not."}, "stop")),
        "refused to answer: I will not.",
    ),
    "a refusal as a part": (
        whole({"content": [{"type": "refusal", "refusal": "I will not."}]}),
        "refused to answer: I will not.",
    ),
    # What is no answer, and whether the base URL is to blame.
    "no choice": (json.dumps({"choices": []}), "without a choice"),
    "a stream without a choice": (sse({"choices": []}, "[DONE]"), "without a choice"),
    "no text": (whole({"content": ""}), "answered with nothing"),
    "only a role": (sse(chunk({"role": "assistant"}), chunk(finish="stop"), "[DONE]"), "answered with nothing"),
    "only thoughts": (whole({"content": [THOUGHT]}), "answered with nothing"),
    "nothing": ("", "an empty body. Check that the base URL"),
    "blank lines": ("\n\n\n", "an empty body. Check that the base URL"),
    "only [DONE]": (sse("[DONE]"), "a stream without an answer. Check that the base URL"),
    "only comments": (": ping\n\n: ping\n\n", "an empty body. Check that the base URL"),
    "a page": (
        "<!doctype html><html><title>Sign in</title><p>Please</p></html>",
        "a page and no JSON object (Sign in). Check that the base URL",
    ),
    "a page without a title": (
        "<html><style>:root{x: y}</style>\n<p>Please sign in</p></html>",
        "a page and no JSON object (Please sign in). Check that",
    ),
    "a text": ("Ollama is running", "text and no JSON object (Ollama is running). Check that the base URL"),
    "null": ("null", "JSON of another shape (null). Check that the base URL"),
    "a list": ("[1, 2]", "JSON of another shape ([1, 2]). Check that the base URL"),
    "JSON of something else": ('{"object": "list", "data": []}', '"data": []}). Check that the base URL'),
    "JSON that breaks off": ('{"choices": [{"mess', "JSON that breaks off or is none"),
    "deep nesting": ("[" * 100_000, "JSON that breaks off or is none"),
    "an event that is no JSON": ("data: {not json\n\n", "({not json). Check that the base URL"),
    "no JSON behind a piece": (sse(chunk({"content": "hel"}), "oops"), "text and no JSON object (oops). Ask again"),
    "a message that is a text": (whole("hello"), "a message of another shape. Ask again"),
    "content that is a number": (whole({"content": 5}), "a message of another shape. Ask again"),
    "a part that is a picture": (
        whole({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
        "a message of another shape",
    ),
    "choices that are an object": ('{"choices": {"message": {}}}', "choices of another shape. Ask again"),
    "JSON that is a text": (json.dumps(SAYS), f"text and no JSON object ({SAYS}). Check"),
    "a text in an error event": (f"event: error\ndata: {SAYS}\n\n", f"answered with an error: {SAYS}"),
    "an error in words that nobody knows": (json.dumps({"error": {"details": SAYS}}), SAYS),
    "content a list of texts": (whole({"content": ["hel", "lo"]}), HELLO),
    "content false": (whole({"content": False, "tool_calls": [{"function": ADD}]}), [("add", A)]),
    "a reference among the parts": (
        whole({"content": [{"type": "reference", "reference_ids": [1]}, "hello"]}),
        HELLO,
    ),
    "tool calls an empty object": (whole({"content": "hello", "tool_calls": {}}), HELLO),
    "tool calls that are one": (whole({"content": None, "tool_calls": {"id": "c", "function": ADD}}), [("add", A)]),
    "data: twice": (sse(chunk({"content": "hello"}, "stop"), "[DONE]", field="data:data: "), HELLO),
    "chunks in a list": (json.dumps([chunk({"content": "hel"}), chunk({"content": "lo"}, "stop")]), HELLO),
    "null as a sign of life": (sse("null", chunk({"content": "hello"}, "stop"), "null"), HELLO),
    "endTurn": (whole({"content": "hello"}, "endTurn"), HELLO),
    "FinishReason.STOP": (whole({"content": "hello"}, "FinishReason.STOP"), HELLO),
    "maxTokens": (whole({"content": "hello"}, "maxTokens"), "cut off at its length limit"),
    "{} before the arguments": (calls(piece("{}", "add", "c1"), piece('{"a"'), piece(":1}")), [("add", A)]),
    "equal calls without an ID, each name before": (
        calls(bare(name="add"), bare(arguments=A), bare(name="add"), bare(arguments=A)),
        [("add", A), ("add", A)],
    ),
    "{} and no more": (calls(piece("{}", "now", "c1"), piece("{}", "now", "c2")), [("now", "{}")] * 2),
    "parameters": (
        calls(bare(id="c", name="add") | {"function": {"name": "add", "parameters": {"a": 1}}}),
        [("add", '{"a": 1}')],
    ),
    "choices that are texts": ('{"choices": ["hello"]}', "a choice of another shape. Ask again"),
}

ERRORS: dict[str, tuple[str, Outcome]] = {
    name: (body, SAYS)
    for name, body in {
        "OpenAI": json.dumps({"error": {"message": SAYS, "type": "server_error", "param": None, "code": None}}),
        "in a list": json.dumps([{"error": {"code": 400, "message": SAYS, "status": "INVALID_ARGUMENT"}}]),
        "a text": json.dumps({"error": SAYS}),
        "a list of texts": json.dumps({"error": [SAYS]}),
        "error true": json.dumps({"error": True, "message": SAYS}),
        "detail": json.dumps({"detail": SAYS}),
        "detail, a list": json.dumps({"detail": [{"loc": ["body", "model"], "msg": SAYS, "type": "missing"}]}),
        "detail, an object": json.dumps({"detail": {"error": {"message": SAYS}}}),
        "message": json.dumps({"object": "error", "message": SAYS, "type": "invalid", "param": None, "code": "1"}),
        "message, an object": json.dumps({"object": "error", "message": {"detail": [{"loc": ["b"], "msg": SAYS}]}}),
        "Message": json.dumps({"Message": SAYS}),
        "errors": json.dumps({"success": False, "errors": [{"code": 7000, "message": SAYS}], "messages": []}),
        "errors by field": json.dumps({"errors": {"detail": [SAYS]}}),
        "error_msg": json.dumps({"error_code": 336003, "error_msg": SAYS}),
        "msg": json.dumps({"code": 1002, "msg": SAYS, "success": False}),
        "base_resp": json.dumps({"base_resp": {"status_code": 1004, "status_msg": SAYS}, "choices": None}),
        "title and detail": json.dumps(
            {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": SAYS}
        ),
        "error and message": json.dumps({"status": 400, "error": "Bad Request", "message": SAYS, "path": "/v1"}),
        "an error within": json.dumps(
            {
                "error": {
                    "message": "Provider returned error",
                    "metadata": {"raw": json.dumps({"error": {"message": SAYS}})},
                }
            }
        ),
        "JSON in the message": json.dumps({"error": {"message": json.dumps({"error": {"message": SAYS}})}}),
        "only a code": json.dumps({"error": {"code": SAYS, "message": ""}}),
        "a BOM": "\ufeff" + json.dumps({"error": SAYS}),
        "in an event": sse({"error": {"message": SAYS}}),
        "in an event, with [DONE]": sse({"error": {"message": SAYS}}, "[DONE]"),
        "in an event, a text": sse({"error": SAYS}),
        "in an error event": "event: error\n" + sse({"message": SAYS}),
        "in an event, a detail": sse({"detail": SAYS}, "[DONE]"),
        "in an event, a list": sse([{"error": {"message": SAYS}}]),
    }.items()
}

IN_A_STREAM: dict[str, tuple[str, Outcome]] = {
    name: (sse(chunk({"content": "hel"})) + body, SAYS)
    for name, body in {
        "with data": sse({"error": {"message": SAYS}}),
        "with data and [DONE]": sse({"error": {"message": SAYS}}, "[DONE]"),
        "without data": json.dumps({"error": {"message": SAYS}}),
        "without data, a text, a line": json.dumps({"error": SAYS}) + "\n",
        "without data, many lines": json.dumps({"error": {"message": SAYS}}, indent=2),
        "without data, in a list": json.dumps([{"error": {"message": SAYS}}]) + "\n\n",
        "an error event": "event: error\n" + sse({"message": SAYS}),
        "a detail without data": json.dumps({"detail": SAYS}),
        "a text": SAYS,
        "a page": f"<html><title>{SAYS}</title></html>",
    }.items()
}

MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}


def call(arguments: Any, call_id: Any = "c1", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "name": "add", "arguments": arguments, "call_id": call_id, **more}


def response(*output: Any, status: Any = "completed", **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": status, "output": [*output], **more}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


def done(*items: Any, index: int | None = None) -> list[dict[str, Any]]:
    return [
        event(f"output_item.{stage}", output_index=at if index is None else index, item=item)
        for at, item in enumerate(items)
        for stage in ("added", "done")
    ]


def delta(text: str, kind: str = "output_text", **more: Any) -> dict[str, Any]:
    return event(f"{kind}.delta", output_index=0, content_index=0, delta=text, **more)


def completed(*output: Any, status: str = "completed", **more: Any) -> dict[str, Any]:
    return event(status, response=response(*output, status=status, **more))


RESPONSES: dict[str, tuple[str, Outcome]] = {
    "plain JSON": (json.dumps(response(MESSAGE)), HELLO),
    "plain JSON on many lines, with a BOM": ("\ufeff" + json.dumps(response(MESSAGE), indent=2), HELLO),
    "plain JSON without a status": (json.dumps({"output": [MESSAGE]}), HELLO),
    "a stream": (
        sse(event("created", response=response()), delta("hello"), *done(MESSAGE), completed(MESSAGE)),
        HELLO,
    ),
    "a stream with [DONE]": (sse(completed(MESSAGE), "[DONE]"), HELLO),
    "the type in the event's name": (
        f"event: response.completed\ndata: {json.dumps({'response': response(MESSAGE)})}\n\n",
        HELLO,
    ),
    "CRLF and a BOM": ("\ufeff" + sse(*done(MESSAGE), completed(MESSAGE), end="\r\n\r\n"), HELLO),
    "items that are not repeated": (sse(*done(MESSAGE), completed()), HELLO),
    "no output at the end": (sse(*done(MESSAGE), event("completed", response={"status": "completed"})), HELLO),
    "only pieces of text": (sse(delta("hel"), delta("lo"), completed()), HELLO),
    "content as a text": (json.dumps(response({"type": "message", "content": "hello"})), HELLO),
    "parts as in chat completions": (
        json.dumps(response({"type": "message", "content": [{"type": "text", "text": "hello"}]})),
        HELLO,
    ),
    "an item without a type": (json.dumps(response({"role": "assistant", "content": "hello"})), HELLO),
    "reasoning without a summary": (json.dumps(response({"type": "reasoning", "id": "r"}, MESSAGE)), HELLO),
    "usage null": (json.dumps(response(MESSAGE, usage=None)), HELLO),
    "usage of another shape": (json.dumps(response(MESSAGE, usage={"input_tokens": None, "x": []})), HELLO),
    "other events": (sse({"type": "keepalive"}, {"x": 1}, event("queued"), completed(MESSAGE)), HELLO),
    "half a surrogate": (json.dumps(response({"type": "message", "content": "a \ud83d"})), ["a \ufffd"]),
    "two calls": (json.dumps(response(call(A), call(B, "c2"))), TWO),
    "two calls of one ID": (json.dumps(response(call(A), call(B))), TWO),
    "two calls without an ID": (json.dumps(response(call(A, None), call(B, None))), TWO),
    "two calls of one place": (sse(*done(call(A, id="f1"), call(B, "c2", id="f2"), index=0), completed()), TWO),
    "two calls of one place and ID": (sse(*done(call(A), call(B), index=0), completed(call(A), call(B))), TWO),
    "calls that the end leaves out": (sse(*done(REASONING, call(A), call(B, "c2")), completed(REASONING)), TWO),
    "a call in pieces and no more": (
        sse(
            event("output_item.added", output_index=0, item=call("")),
            delta('{"a"', "function_call_arguments"),
            delta(":1}", "function_call_arguments"),
            completed(),
        ),
        [("add", A)],
    ),
    "a call whose end is not told, and a text": (
        sse(
            delta("hello"),
            event("output_item.added", output_index=1, item=call("")),
            event("function_call_arguments.done", output_index=1, arguments=A),
            completed(),
        ),
        ["hello", ("add", A)],
    ),
    "a call that only the end leaves out": (
        sse(event("output_item.added", output_index=1, item=call(A)), completed(MESSAGE)),
        ["hello", ("add", A)],
    ),
    "response.error": (sse(delta("hel"), event("error", message=SAYS)), f"answered with an error: {SAYS}"),
    "arguments an object": (json.dumps(response(call({"a": 1}))), [("add", '{"a": 1}')]),
    "arguments null": (json.dumps(response(call(None))), [("add", "{}")]),
    "arguments empty": (sse(*done(call("")), completed(call(""))), [("add", "{}")]),
    "no end": (sse(event("created", response=response()), delta("hel")), "broke off in the middle"),
    "no end, [DONE]": (sse(*done(MESSAGE), "[DONE]"), "broke off in the middle"),
    "failed": (sse(completed(status="failed", error={"code": "server_error", "message": SAYS})), f"error: {SAYS}"),
    "failed, whole": (json.dumps(response(status="failed", error={"message": SAYS})), f"error: {SAYS}"),
    "failed, nobody knows why": (json.dumps(response(status="failed")), "it does not say which"),
    "too long": (
        sse(completed(status="failed", error={"code": "context_length_exceeded", "message": SAYS})),
        f"set AGENT_HISTORY lower. It said: {SAYS}",
    ),
    "incomplete": (
        sse(completed(MESSAGE, status="incomplete", incomplete_details={"reason": "max_output_tokens"})),
        "cut off at its length limit",
    ),
    "incomplete, nobody knows why": (json.dumps(response(MESSAGE, status="incomplete")), "cut off at its length"),
    "incomplete, filtered": (
        json.dumps(response(MESSAGE, status="incomplete", incomplete_details={"reason": "content_filter"})),
        "content filter withheld",
    ),
    "cancelled": (json.dumps(response(MESSAGE, status="cancelled")), "it ended with 'cancelled'"),
    "in progress": (json.dumps(response(MESSAGE, status="in_progress")), "it ended with 'in_progress'"),
    "an error, flat": (sse({"type": "error", "code": "server_error", "message": SAYS, "param": None}), SAYS),
    "an error, nested": (sse(delta("hel"), {"type": "error", "error": {"message": SAYS}}), SAYS),
    "an error event": (sse(delta("hel")) + "event: error\n" + sse({"message": SAYS}), SAYS),
    "an error without data": (sse(delta("hel")) + json.dumps({"error": {"message": SAYS}}), SAYS),
    "a refusal": (
        json.dumps(response({"type": "message", "content": [{"type": "refusal", "refusal": "No."}]})),
        "refused to answer: No.",
    ),
    "nothing": (json.dumps(response()), "answered with nothing"),
    "a chat completion": (whole({"content": "hello"}), "a chat completion. Check that the base URL"),
    "a page": ("<html><title>Sign in</title></html>", "(Sign in). Check that the base URL"),
    "JSON of something else": (
        '{"object": "list"}',
        'JSON of another shape ({"object": "list"}). Check that the base URL',
    ),
    "an empty body": ("", "an empty body. Check that the base URL"),
    "output that is a text": (json.dumps(response() | {"output": "hello"}), "output of another shape. Ask again"),
    "a part that is a picture": (
        json.dumps(response({"type": "message", "content": [{"type": "output_image"}]})),
        "a message of another shape. Ask again",
    ),
    "a call without a name": (json.dumps(response(call(A, name=""))), "a tool call without a name. Ask again"),
}
