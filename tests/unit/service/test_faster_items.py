"""What the SDK does with each item of a conversation, done faster: it comes to what the SDK comes to."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from agents import run_state
from agents.items import ItemHelpers
from agents.run_internal import items as sdk_items
from agents.run_internal import run_loop
from agents.util import _json
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseOutputText

from flameagent.service import sdk_compat
from flameagent.service.models.call_ids import NamingModel

DUMP, CLONE = _json._to_dump_compatible_internal, run_state._clone_original_input
KEY = sdk_items._dedupe_key
PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
SET = [
    (_json, "_to_dump_compatible_internal"),
    (run_state, "_clone_original_input"),
    (sdk_items, "_dedupe_key"),
    (run_loop, "get_model"),
]


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in SET:
        monkeypatch.setattr(module, name, getattr(module, name))
    sdk_compat.copy_items_faster()
    sdk_compat.find_duplicates_faster()


def same(value: Any, other: Any) -> bool:
    return repr(value) == repr(other)


@given(VALUES)
def test_what_is_plain_json_is_copied_as_the_sdk_copies_it(value: Any) -> None:
    assert same(sdk_compat._Copy(DUMP)(value), DUMP(value))
    assert same(sdk_compat._Copy(CLONE)([value]), copy.deepcopy([value]))


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


def test_each_part_is_set_once() -> None:
    sdk_compat.wrap_models_of_runs(NamingModel)
    before = [getattr(module, name) for module, name in SET]
    sdk_compat.copy_items_faster()
    sdk_compat.find_duplicates_faster()
    sdk_compat.wrap_models_of_runs(NamingModel)
    assert [getattr(module, name) for module, name in SET] == before


KINDS = ["function_call", "function_call_output", "computer_call", "message", "program", "x", None, 1]
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", None]),
        "type": st.sampled_from(KINDS),
        "call_id": st.sampled_from(["1", "2", "", None, 1]),
        "id": st.sampled_from(["1", "__fake_id__", None]),
        "approval_request_id": st.sampled_from(["1", None]),
        "content": st.text(),
    },
)


@given(ITEMS)
def test_the_key_of_an_item_is_the_sdks(item: dict[str, Any]) -> None:
    assert sdk_compat._Key(KEY)(item) == KEY(item)


def test_duplicates_are_found_by_it() -> None:
    items: list[Any] = [
        {"type": "function_call", "call_id": "1", "name": "a", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "old"},
        {"type": "function_call_output", "call_id": "1", "output": "new"},
        {"role": "user", "content": "?"},
        {"role": "user", "content": "?"},
    ]
    assert isinstance(sdk_items._dedupe_key, sdk_compat._Key)
    assert sdk_items.deduplicate_input_items_preferring_latest(items) == [items[0], *items[2:]]


def test_an_sdk_that_makes_other_keys_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(item: Any) -> str | None:
        return KEY(item) and f"new:{KEY(item)}"

    monkeypatch.setattr(sdk_items, "_dedupe_key", another)
    sdk_compat.find_duplicates_faster()
    assert sdk_items._dedupe_key is another
