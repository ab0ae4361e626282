"""What the SDK does with each item of a conversation and with each agent, done faster: the same comes of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from agents import (
    Agent,
    ModelSettings,
    RunConfig,
    _config_coercion,
    _run_state_agent_identity,
    function_tool,
    model_settings,
    run,
    run_config,
    run_state,
)
from agents.items import ItemHelpers
from agents.memory import SessionSettings
from agents.memory import session as sdk_session
from agents.run_internal import items as sdk_items
from agents.run_internal import oai_conversation, run_loop, session_persistence, turn_resolution
from agents.util import _json
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseOutputText

from flameagent.service import sdk_compat, sdk_speed
from flameagent.service.models.call_ids import NamingModel

DUMP, CLONE = _json._to_dump_compatible_internal, run_state._clone_original_input
KEY, DEDUPLICATE = sdk_items._dedupe_key, sdk_items.deduplicate_input_items_preferring_latest
NORMALIZE, SORT_KEY = sdk_items.normalize_input_items_for_api, _run_state_agent_identity._agent_identity_sort_key
ORPHANS, ACCEPTS = sdk_items.drop_orphan_function_calls, sdk_session._session_method_accepts_wrapper
DECLARED, PREPARE = _config_coercion._declared_dataclass_type, session_persistence.prepare_input_with_session
PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
SET = [
    (_json, "_to_dump_compatible_internal"),
    (run_state, "_clone_original_input"),
    (sdk_items, "_dedupe_key"),
    *((module, "deduplicate_input_items_preferring_latest") for module in (sdk_items, run_loop, session_persistence)),
    *((module, "normalize_input_items_for_api") for module in (sdk_items, session_persistence)),
    *(
        (module, "drop_orphan_function_calls")
        for module in (sdk_items, oai_conversation, session_persistence, turn_resolution)
    ),
    *((module, "prepare_input_with_session") for module in (session_persistence, run, run_loop)),
    (_run_state_agent_identity, "_agent_identity_sort_key"),
    (sdk_session, "_session_method_accepts_wrapper"),
    *((module, "_declared_dataclass_type") for module in (_config_coercion, model_settings, run_config)),
    (run_loop, "get_model"),
]


def prepare() -> None:
    sdk_speed.copy_items_faster()
    sdk_speed.find_duplicates_faster()
    sdk_speed.normalize_items_faster()
    sdk_speed.find_orphans_faster()
    sdk_speed.take_history_faster()
    sdk_speed.compare_agents_late()
    sdk_speed.inspect_sessions_once()
    sdk_speed.read_declarations_once()


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in SET:
        monkeypatch.setattr(module, name, getattr(module, name))
    prepare()


def same(value: Any, other: Any) -> bool:
    return repr(value) == repr(other)


@given(VALUES)
def test_what_is_plain_json_is_copied_as_the_sdk_copies_it(value: Any) -> None:
    assert same(sdk_speed._Copy(DUMP)(value), DUMP(value))
    assert same(sdk_speed._Copy(CLONE)([value]), copy.deepcopy([value]))


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
    prepare()
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
    assert sdk_speed._Key(KEY)(item) == KEY(item)


def test_duplicates_are_found_by_it() -> None:
    items: list[Any] = [
        {"type": "function_call", "call_id": "1", "name": "a", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "old"},
        {"type": "function_call_output", "call_id": "1", "output": "new"},
        {"role": "user", "content": "?"},
        {"role": "user", "content": "?"},
    ]
    assert isinstance(sdk_items._dedupe_key, sdk_speed._Key)
    assert sdk_items.deduplicate_input_items_preferring_latest(items) == [items[0], *items[2:]]


@given(st.lists(ITEMS | st.none(), max_size=6))
def test_what_is_left_of_duplicates_is_the_sdks(items: list[Any]) -> None:
    found = sdk_speed._Deduplicated(DEDUPLICATE, sdk_speed._Key(KEY))(items)
    expected = DEDUPLICATE(items)
    assert found is not items
    assert list(map(id, found)) == list(map(id, expected))


OWN = st.sampled_from([*sorted(sdk_speed._Normalized.OWN), "role", "type", "content", "x"])


@given(st.lists(st.dictionaries(OWN, st.integers()) | st.none(), max_size=5))
def test_items_are_normalized_as_the_sdk_normalizes_them(items: list[Any]) -> None:
    items = [*items, ResponseOutputText(type="output_text", text="x", annotations=[])]
    before = repr(items)
    normalized = sdk_speed._Normalized(NORMALIZE)(items)
    assert repr(normalized) == repr(NORMALIZE(items))
    assert repr(items) == before
    assert all(new is not old for new, old in zip(normalized, items, strict=True) if old is not None)


def test_an_sdk_that_takes_other_fields_from_items_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(items: list[Any]) -> list[Any]:
        return [{name: item[name] for name in item if name != "status"} for item in NORMALIZE(items)]

    monkeypatch.setattr(sdk_items, "normalize_input_items_for_api", another)
    sdk_speed.normalize_items_faster()
    assert sdk_items.normalize_input_items_for_api is another


CALLS = st.sampled_from(["function_call", "function_call_output"])
FEW_IDS = st.sampled_from(["1", "2"])
PAIRS = st.fixed_dictionaries({"type": CALLS, "call_id": FEW_IDS})
OTHERS = st.fixed_dictionaries({"type": st.sampled_from(["message", "reasoning"])}) | st.just({"role": "user"})


@given(
    st.lists(PAIRS | OTHERS, max_size=6) | st.lists(ITEMS | PAIRS | OTHERS | st.none(), max_size=6),
    st.none() | st.sets(st.integers(0, 6)),
    st.none() | st.sets(st.integers(0, 6)),
)
def test_what_is_left_of_calls_without_outputs_is_the_sdks(
    items: list[Any], pruned: set[int] | None, outputs: set[int] | None
) -> None:
    where = {"pruning_indexes": pruned, "output_pruning_indexes": outputs}
    found = sdk_speed._Paired(ORPHANS)(items, **where)
    assert found is not items
    assert list(map(id, found)) == list(map(id, ORPHANS(items, **where)))


def test_most_conversations_are_not_looked_at_slowly() -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("slow")

    paired = [
        {"role": "user", "content": "?"},
        {"type": "reasoning", "id": "r"},
        {"type": "function_call", "call_id": "1"},
        {"type": "function_call_output", "call_id": "1"},
        {"type": "message", "role": "assistant", "content": []},
    ]
    assert sdk_speed._Paired(never)(paired) == paired


class _Plain:
    def get(self) -> None: ...

    def get_with(self, *, wrapper: Any = None) -> None: ...

    @staticmethod
    def get_static(wrapper: Any) -> None: ...

    @classmethod
    def get_class(cls, wrapper: Any) -> None: ...

    def get_first(wrapper, limit: Any = None) -> None: ...  # type: ignore[no-untyped-def]

    def get_without_self(*, wrapper: Any = None) -> None: ...  # type: ignore[misc]

    def __call__(self, wrapper: Any) -> None: ...


@pytest.mark.parametrize(
    "name",
    ["get", "get_with", "get_static", "get_class", "get_first", "get_without_self", "__call__", "own", "bound"],
)
def test_what_methods_of_sessions_take_is_what_the_sdk_finds(name: str) -> None:
    first, second = _Plain(), _Plain()
    for own in first, second:
        own.own = lambda wrapper: None  # type: ignore[attr-defined]
        own.bound = type(first).get_with.__get__(own)  # type: ignore[attr-defined]
    for method in getattr(first, name), getattr(second, name), getattr(first, name):
        assert sdk_session._session_method_accepts_wrapper(method) is ACCEPTS(method)


def test_sessions_of_two_classes_are_not_taken_for_each_other() -> None:
    class Takes(_Plain):
        def get(self, *, wrapper: Any = None) -> None: ...

    asked = [sdk_session._session_method_accepts_wrapper(kind().get) for kind in (_Plain, Takes, _Plain)]
    assert asked == [False, True, False]


def test_declarations_are_what_the_sdk_reads() -> None:
    class Own(Agent[Any]):
        pass

    for owner in Agent, RunConfig, Own, Agent:
        for declared in _config_coercion._declared_dataclass_type, model_settings._declared_dataclass_type:
            assert declared(owner, "model_settings", ModelSettings) is DECLARED(
                owner, "model_settings", ModelSettings
            )


def tool(name: str) -> Any:
    return function_tool(lambda: name, name_override=name)


def test_agents_of_one_name_are_told_apart_as_the_sdk_does(monkeypatch: pytest.MonkeyPatch) -> None:
    twins: list[Any] = [Agent("twin", instructions=text, tools=[tool(text)]) for text in ("b", "a", "c", "a")]
    root: Agent[Any] = Agent("root", handoffs=[*twins, Agent("twin#2"), Agent("root")])
    late = _run_state_agent_identity._build_agent_identity_map(root)
    ambiguous = _run_state_agent_identity._get_ambiguous_agent_ids(root)
    monkeypatch.setattr(_run_state_agent_identity, "_agent_identity_sort_key", SORT_KEY)
    assert late == _run_state_agent_identity._build_agent_identity_map(root)
    assert ambiguous == _run_state_agent_identity._get_ambiguous_agent_ids(root) != set()


def test_an_agent_that_has_its_name_alone_is_not_described(monkeypatch: pytest.MonkeyPatch) -> None:
    def described(agent: Any) -> str:
        raise AssertionError(agent)

    monkeypatch.setattr(_run_state_agent_identity, "_agent_identity_signature", described)
    root: Agent[Any] = Agent("root", handoffs=[Agent("other")])
    assert list(_run_state_agent_identity._build_agent_identity_map(root)) == ["root", "other"]


def test_an_sdk_that_makes_other_keys_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(item: Any) -> str | None:
        return KEY(item) and f"new:{KEY(item)}"

    monkeypatch.setattr(sdk_items, "_dedupe_key", another)
    sdk_speed.find_duplicates_faster()
    assert sdk_items._dedupe_key is another


TEXTS = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=3)})
MESSAGES = TEXTS | TEXTS.map(lambda item: {"type": "message", **item})
REASONING = st.fixed_dictionaries({"type": st.just("reasoning"), "id": FEW_IDS | st.none() | st.just("__fake_id__")})
HISTORIES = st.lists(PAIRS | MESSAGES | REASONING, max_size=6) | st.lists(
    ITEMS | PAIRS | OTHERS | MESSAGES | REASONING, max_size=6
)


class _Session:
    """A session as ours: it gives copies of what it has."""

    session_id, session_settings, gives_copies = "s", None, True

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return copy.deepcopy(self.items)


@given(HISTORIES, st.text() | HISTORIES)
def test_what_a_model_is_sent_of_a_session_is_what_the_sdk_makes_of_it(history: list[Any], asked: Any) -> None:
    before = copy.deepcopy((history, asked))

    def made(prepare: Any) -> tuple[list[Any], list[Any]]:
        prepared, new = sdk_speed._at_once(prepare(asked, _Session(history), None))
        assert not {id(item) for item in prepared} & {id(item) for item in [*new, *history]}
        return prepared, new

    assert made(sdk_speed._History(PREPARE)) == made(PREPARE)
    assert (history, asked) == before


def _looked_at_slowly(history: list[Any], **more: Any) -> bool:
    looked = []

    async def slowly(*arguments: Any, **named: Any) -> Any:
        looked.append(True)
        return await PREPARE(*arguments, **named)

    session, callback = more.pop("session", _Session(history)), more.pop("callback", None)
    prepare = sdk_speed._History(slowly)
    assert sdk_speed._at_once(prepare("?", session, callback, **more)) == sdk_speed._at_once(
        PREPARE("?", session, callback, **more)
    )
    return bool(looked)


class _Limited(_Session):
    session_settings = SessionSettings(limit=1)  # type: ignore[assignment]

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return (await super().get_items())[-(limit or 0) :]


class _Another(_Session):
    gives_copies = False


def test_histories_are_taken_as_they_are_where_nothing_is_to_be_done() -> None:
    paired = [
        {"role": "user", "content": "?"},
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "function_call", "id": "f", "call_id": "1", "name": "n", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "2"},
        {"type": "message", "role": "assistant", "content": []},
    ]
    assert not _looked_at_slowly(paired)
    assert _looked_at_slowly(paired[:3]), "a call without its output"
    assert _looked_at_slowly([*paired, *paired]), "the same call twice"
    assert _looked_at_slowly([{**paired[0], "created_by": "x"}]), "a field that the SDK keeps for itself"
    assert _looked_at_slowly(paired, session=_Limited(paired))
    assert _looked_at_slowly(paired, session=_Another(paired))
    assert _looked_at_slowly(paired, session_settings=SessionSettings(limit=2), session=_Limited(paired))
    assert _looked_at_slowly(paired, callback=lambda history, new: [*new, *history])
    assert _looked_at_slowly(paired, include_history_in_prepared_input=False)
    assert _looked_at_slowly(paired, reasoning_item_id_policy="omit")


def test_an_sdk_that_makes_something_else_of_a_session_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def another(
        input: Any,
        session: Any,
        session_input_callback: Any,
        session_settings: Any = None,
        *,
        include_history_in_prepared_input: bool = True,
        preserve_dropped_new_items: bool = False,
        reasoning_item_id_policy: Any = None,
        wrapper: Any = None,
    ) -> Any:
        prepared, new = await PREPARE(input, session, session_input_callback)
        return prepared[1:], new

    async def with_more(input: Any, session: Any, callback: Any, more: int = 0) -> Any:
        return await PREPARE(input, session, callback)

    for changed in another, with_more:
        monkeypatch.setattr(session_persistence, "prepare_input_with_session", changed)
        sdk_speed.take_history_faster()
        assert session_persistence.prepare_input_with_session is changed
