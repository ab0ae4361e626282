"""Bodies and tool calls in pieces of any size and order: what was cut is put together as it was."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flameagent.service.models.body import Decoder, Done, Part, Text, Value
from flameagent.service.models.reading.pieces import Calls, Growing, NoCall
from tests.integration.service import reading_cases as cases

BODIES = [
    body for group in (cases.CALLS, cases.SHAPES, cases.ERRORS, cases.IN_A_STREAM) for body, _ in group.values()
]
CLOSED = json.dumps({"a": "b\u2028c😀", "d": [1, None, {"e": "{"}]}, ensure_ascii=False)


def decoded(body: bytes, cuts: list[int]) -> list[Part]:
    decoder = Decoder()
    places = sorted({min(cut, len(body)) for cut in cuts})
    parts: list[Part] = []
    for start, end in zip([0, *places], [*places, len(body)], strict=True):
        parts += decoder.feed(body[start:end])
    return parts + decoder.feed(b"", final=True)


@given(st.sampled_from(BODIES), st.lists(st.integers(0, 400)))
def test_where_a_body_is_cut_changes_nothing(body: str, cuts: list[int]) -> None:
    data = body.encode()
    assert decoded(data, cuts) == decoded(data, [])


@given(
    st.lists(st.sampled_from(["data", "line", "indented", "comment", "blank"])),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
    st.lists(st.integers(0, 400)),
)
def test_framings_may_be_mixed(frames: list[str], end: str, encoding: str, cuts: list[int]) -> None:
    forms = {
        "data": f"data: {CLOSED}\n\n",
        "line": f"{CLOSED}\n",
        "indented": json.dumps(json.loads(CLOSED), indent=1) + "\ndata:\n\n",
        "comment": ": ping\nid: 1\nretry: 5\n\n",
        "blank": "\n",
    }
    text = "".join(forms[frame] for frame in frames) + "data: [DONE]"
    values = [
        part.json for part in decoded(text.replace("\n", end).encode(encoding), cuts) if isinstance(part, Value)
    ]
    assert values == [json.loads(CLOSED)] * sum(frame in {"data", "line", "indented"} for frame in frames)


@given(st.binary(), st.lists(st.integers(0, 100)))
def test_any_bytes_are_parts(data: bytes, cuts: list[int]) -> None:
    assert all(isinstance(part, Value | Text | Done) for part in decoded(data, cuts))


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    assert decoded(b'data: {"a": "\xff\xc3"}\n\n', [14]) == [Value({"a": "\ufffd\ufffd"}, "")]


@given(st.text(st.characters() | st.sampled_from("\ud83d\ude00")), st.lists(st.integers(0, 50)))
def test_a_text_in_pieces_is_well_formed_and_whole(text: str, cuts: list[int]) -> None:
    places = sorted({min(cut, len(text)) for cut in cuts})
    growing = Growing()
    told = [growing.add(text[start:end]) for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    told.append(growing.end())
    assert "".join(told) == growing.text == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    "".join(told[:1]).encode()


STYLES = {
    "by the book": lambda at, first: {"index": at, **({"id": f"c{at}"} if first else {})},
    "the ID again": lambda at, first: {"index": at, "id": f"c{at}"},
    "index 0": lambda at, first: {"index": 0, **({"id": f"c{at}"} if first else {})},
    "index 0, the ID again": lambda at, first: {"index": 0, "id": f"c{at}"},
    "index 0, empty IDs": lambda at, first: {"index": 0, "id": f"c{at}" if first else ""},
    "no index": lambda at, first: {"id": f"c{at}"} if first else {},
    "no ID": lambda at, first: {"index": at},
    "neither": lambda at, first: {},
    "null": lambda at, first: {"index": None, "id": None},
    "one ID for all": lambda at, first: {"index": at, "id": "c"},
    "index 0 and one ID for all": lambda at, first: {"index": 0, **({"id": "c"} if first else {})},
}
ARGUMENTS = st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers(), min_size=1, max_size=3)


@settings(max_examples=200)
@given(
    style=st.sampled_from(sorted(STYLES)),
    is_named_often=st.booleans(),
    calls=st.lists(st.tuples(st.sampled_from(["add", "sub"]), ARGUMENTS), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    alone=st.booleans(),
)
def test_no_call_is_lost_or_glued(
    style: str, is_named_often: bool, calls: list[tuple[str, dict[str, Any]]], cuts: list[int], alone: bool
) -> None:
    """`alone`: the first piece names the call, and the arguments begin in the next one."""
    # One that is said again under its own ID is no other.
    assume(style != "index 0 and one ID for all" or all(call not in calls[:at] for at, call in enumerate(calls)))
    numbers = count()
    reading = Calls(lambda given: f"own{next(numbers)}")
    told: dict[int, str] = {}
    for at, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        places = sorted({min(cut, len(text)) for cut in cuts})
        pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
        pieces = ["", *pieces] if alone else [piece for piece in pieces if piece]
        for number, piece in enumerate(pieces):
            first = number == 0
            function = {"arguments": piece} | ({"name": name} if first or is_named_often else {})
            for delta in reading.add([STYLES[style](at, first) | {"function": function}]):
                told[delta["index"]] = told.get(delta["index"], "") + delta["function"]["arguments"]
    for delta in reading.end():
        told[delta["index"]] += delta["function"]["arguments"]
    whole = [(call["function"]["name"], call["function"]["arguments"]) for call in reading.whole()]
    assert whole == [(name, json.dumps(arguments)) for name, arguments in calls]
    assert list(told.values()) == [arguments for _, arguments in whole]


ODD = st.sampled_from([None, True, -1, 0.5, "", "1", "a", [], {}, [1], {"a": 1}, '{"a":1}', "\ud83d"])


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "index": ODD,
                "id": ODD,
                "name": ODD,
                "function": ODD | st.fixed_dictionaries({}, optional={"name": ODD, "arguments": ODD}),
                "extra_content": ODD,
            },
        )
        | ODD,
        max_size=5,
    )
)
def test_any_pieces_are_calls_or_none(deltas: list[Any]) -> None:
    reading = Calls(lambda given: "own")
    try:
        for delta in deltas:
            reading.add([delta])
        reading.end()
    except NoCall as error:
        assert "tool call" in str(error)
    else:
        assert bool(reading) == bool(deltas)
