"""Records: JSON that comes back as it was, in an envelope that never changes."""

from __future__ import annotations

import json
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flameagent.conversation import EditBody, TurnBody, Usage
from flameagent.conversation.codec import decode, encode
from flameagent.conversation.records import (
    VERSION,
    Body,
    Item,
    Unreadable,
    make,
    read_body,
    read_envelope,
)
from flameagent.conversation.reducers import EDITS, REDUCERS

# Two halves of a pair side by side are one character in JSON: no JSON store can tell them from it.
texts = st.text(st.characters(codec=None), max_size=20).filter(lambda text: json.loads(json.dumps(text)) == text)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
items = st.lists(st.dictionaries(texts, json_values, max_size=4), max_size=4)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(items)
def test_items_come_back_as_they_were(added: list[Item]) -> None:
    record = make(EditBody("add", items=added), seq=0, prev="")
    body = read_body(record.data, record.envelope.v)
    assert isinstance(body, EditBody)
    assert repr(body.items) == repr(added)
    assert repr(record.body) == repr(body)
    assert repr(decode(encode(added), list[Item])) == repr(added)
    assert repr(json.loads(record.data)["items"] if added else []) == repr(added)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.binary(max_size=200) | items.map(encode) | json_values.map(encode))
def test_bytes_that_are_no_record_are_unreadable_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read_envelope(data)
    for version in (1, VERSION):
        with pytest.raises(Unreadable):
            read_body(data, version)


def test_the_envelope_stays_as_it_is_for_ever() -> None:
    """Old programs read it: a change here locks them out of new conversations without a word."""
    body = TurnBody("t1", "?", [{"role": "user", "content": "?"}], {"answer": "!"}, Usage(requests=1), "m")
    written = json.loads(make(body, seq=3, prev="p", record_id="r").data)
    assert written.pop("at") > 1_700_000_000_000
    assert written == {
        "v": 1,
        "id": "r",
        "prev": "p",
        "seq": 3,
        "kind": "turn",
        "turn": "t1",
        "question": "?",
        "items": [{"role": "user", "content": "?"}],
        "answer": {"answer": "!"},
        "usage": {"requests": 1},
        "model": "m",
    }
    assert json.loads(make(EditBody("clear"), seq=0, prev="", record_id="r").data).keys() == {
        *("v", "id", "prev", "seq", "kind", "at"),
        "op",
    }


def test_fields_that_a_newer_program_adds_are_left_aside() -> None:
    record = make(EditBody("add", items=[{"a": 1}]), seq=3, prev="p")
    data = json.dumps({**json.loads(record.data), "facts": {"a": "b"}}).encode()
    assert read_envelope(data) == record.envelope
    assert read_body(data, 1) == record.body


@pytest.mark.parametrize("added", [["text"], [None], [1], [[]]])
def test_a_record_that_nobody_could_read_is_not_made(added: list[Any]) -> None:
    with pytest.raises(Unreadable):
        make(EditBody("add", items=added), seq=0, prev="")


@pytest.mark.parametrize("depth", [200, 900, 960, 970, 980, 985, 990, 995, 2000])
def test_what_can_be_written_can_be_read(depth: int) -> None:
    item: dict[str, Any] = {}
    for _ in range(depth):
        item = {"a": item}
    try:
        record = make(EditBody("add", items=[item]), seq=0, prev="")
    except (Unreadable, RecursionError):
        assert depth > 200
        return
    assert read_body(record.data, record.envelope.v) == record.body


def test_not_a_number_is_the_same_for_all_readers() -> None:
    """JSON has no NaN: it becomes null, for the writer too."""
    record = make(EditBody("add", items=[{"a": float("nan")}]), seq=0, prev="")
    assert record.body == read_body(record.data, record.envelope.v)
    assert isinstance(record.body, EditBody)
    assert record.body.items == [{"a": None}]


def test_each_kind_of_record_and_each_edit_has_a_reducer() -> None:
    assert set(REDUCERS) == {body.__struct_config__.tag for body in get_args(Body)}
    assert set(EDITS) == set(get_args(get_type_hints(EditBody)["op"]))
