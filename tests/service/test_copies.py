"""The SDK's copies, made faster, are the SDK's copies."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from agents import run_state
from agents.items import ItemHelpers
from agents.util import _json
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseOutputText

from flameagent.service import copies

DUMP, CLONE = _json._to_dump_compatible_internal, run_state._clone_original_input
PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json, "_to_dump_compatible_internal", _json._to_dump_compatible_internal)
    monkeypatch.setattr(run_state, "_clone_original_input", run_state._clone_original_input)
    copies.prepare()


def same(value: Any, other: Any) -> bool:
    return repr(value) == repr(other)


@given(VALUES)
def test_what_is_plain_json_is_copied_as_the_sdk_copies_it(value: Any) -> None:
    assert same(copies._Copy(DUMP)(value), DUMP(value))
    assert same(copies._Copy(CLONE)([value]), copy.deepcopy([value]))


def test_a_copy_shares_nothing() -> None:
    items: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": "?"}]}]
    for copied in ItemHelpers.input_to_new_input_list(items), run_state._clone_original_input(items):
        assert copied == items
        assert copied is not items and copied[0] is not items[0]  # type: ignore[comparison-overlap]
        assert copied[0]["content"][0] is not items[0]["content"][0]  # type: ignore[index, typeddict-item]


@pytest.mark.parametrize(
    "value",
    [
        [{"a": {1}}, {3: {"b": b"bytes"}}],
        [ResponseOutputText(type="output_text", text="said", annotations=[])],
        {"deep": {"of": [{"a model": ResponseOutputText(type="output_text", text="x", annotations=[])}]}},
        [object, {"plain": 1}],
    ],
)
def test_what_is_not_plain_json_is_left_to_the_sdk(value: Any) -> None:
    assert same(_json._to_dump_compatible(value), DUMP(value))


def test_it_is_prepared_once() -> None:
    prepared = _json._to_dump_compatible_internal
    copies.prepare()
    assert _json._to_dump_compatible_internal is prepared
