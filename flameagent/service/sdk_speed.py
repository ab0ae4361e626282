"""What the Agents SDK does with each item of a conversation and with each agent, done faster.

Tried with openai-agents 0.24.0. Promises that all comes to what the SDK comes to: what a version has no more, or does
otherwise, is left alone, and then turns get slower and nothing else changes. The functions are private ones; each has
its test `test_contract_…` in `tests/unit/service/test_sdk_compat.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from functools import cached_property, lru_cache
from inspect import signature
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import msgspec


def copy_items_faster() -> None:
    """Have the SDK copy the items of a conversation in C: `_to_dump_compatible_internal`, `_clone_original_input`.

    The SDK copies all items four times a turn, dictionary by dictionary, which is half of what a turn with 1000 items
    takes. The results are the same, but that a copy of a tuple stays one; what is not plain JSON is left to the SDK.
    Where it has these functions no more, long conversations get slower, and nothing else changes.
    """
    from agents import run_state
    from agents.util import _json

    for module, name in (_json, "_to_dump_compatible_internal"), (run_state, "_clone_original_input"):
        original = getattr(module, name, None)
        if original is not None and not isinstance(original, _Copy):
            setattr(module, name, _Copy(original))


class _Copy:
    """Copies what is plain JSON; anything else `slowly`."""

    def __init__(self, slowly: Callable[[Any], Any]) -> None:
        self._slowly = slowly

    def __call__(self, value: Any) -> Any:
        try:
            return msgspec.to_builtins(value, builtin_types=(bytes, bytearray, memoryview))
        except (TypeError, ValueError, RecursionError):
            return self._slowly(value)


def find_duplicates_faster() -> None:
    """Have the SDK find the keys of usual items faster: `run_internal.items._dedupe_key`.

    It works out up to eight times a turn by which key each item could be a duplicate, and copies those that have one.
    The keys are the same; where none is there twice, `deduplicate_input_items_preferring_latest` has nothing to do.
    """
    from agents.run_internal import items, run_loop, session_persistence

    original = getattr(items, "_dedupe_key", None)
    if original is None or isinstance(original, _Key) or not _Key.fits(original):
        return
    items._dedupe_key = key = _Key(original)
    name = "deduplicate_input_items_preferring_latest"
    _set_everywhere(name, lambda slowly: _Deduplicated(slowly, key), items, run_loop, session_persistence)


class _Key:
    """The key by which a message, a call or its output is a duplicate of another; that of anything else `slowly`."""

    _CALLS = ("function_call", "function_call_output")

    def __init__(self, slowly: Callable[[Any], str | None]) -> None:
        self._slowly = slowly

    @classmethod
    def fits(cls, original: Callable[[Any], str | None]) -> bool:
        """Return whether the SDK names these three as we do."""
        seen: list[dict[str, Any]] = [{"role": "user"}, *({"type": kind, "call_id": "1"} for kind in cls._CALLS)]
        return list(map(original, seen)) == list(map(cls(original), seen))

    def __call__(self, item: Any) -> str | None:
        if type(item) is dict:
            if item.get("role") is not None:
                return None
            kind, call_id = item.get("type"), item.get("call_id")
            if kind in self._CALLS and isinstance(call_id, str):
                return f"call_id:{kind}:{call_id}"
        return self._slowly(item)


class _Deduplicated:
    """The items where no two have the same key; otherwise what comes of them `slowly`."""

    def __init__(self, slowly: Callable[[Any], list[Any]], key: _Key) -> None:
        self._slowly = slowly
        self._key = key

    def __call__(self, items: Any) -> list[Any]:
        return self._slowly(items) if _has_duplicates(items, self._key) else list(items)


def _has_duplicates(items: Any, key: Callable[[Any], str | None]) -> bool:
    may_be = [item for item in items if type(item) is not dict or item.get("role") is None]
    keys = [found for found in map(key, may_be) if found is not None]
    return len(set(keys)) < len(keys)


def normalize_items_faster() -> None:
    """Have the SDK copy each item once where it takes nothing from it: `normalize_input_items_for_api`.

    It copies each twice, up to four times a turn, to take three fields of its own from it, which few items have.
    """
    from agents.run_internal import items, session_persistence

    if _Normalized.fits(getattr(items, "normalize_input_items_for_api", None)):
        _set_everywhere("normalize_input_items_for_api", _Normalized, items, session_persistence)


class _Normalized:
    """Copies of items without the fields that the SDK keeps for itself; what has one is made `slowly`."""

    OWN = frozenset({"_agents_tool_description", "_agents_tool_title", "created_by"})

    def __init__(self, slowly: Callable[[list[Any]], list[Any]]) -> None:
        self._slowly = slowly

    @classmethod
    def fits(cls, original: Callable[[list[Any]], list[Any]] | None) -> bool:
        """Return whether these are the fields that the SDK takes, and it is not made faster yet."""
        names = "id type role content call_id name arguments output status summary encrypted_content provider_data"
        others = dict.fromkeys(names.split(), 1)
        seen = [dict.fromkeys(cls.OWN, 1) | others]
        return original is not None and not isinstance(original, cls) and original(seen) == [others]

    def __call__(self, items: list[Any]) -> list[Any]:
        own, slowly = self.OWN, self._slowly
        return [item.copy() if type(item) is dict and own.isdisjoint(item) else slowly([item])[0] for item in items]


def find_orphans_faster() -> None:
    """Have the SDK see at once that no call is without its output: `drop_orphan_function_calls`.

    It makes several tables of all items a turn, to find the calls that have none.
    """
    from agents.run_internal import items, oai_conversation, session_persistence, turn_resolution

    if _Paired.fits(getattr(items, "drop_orphan_function_calls", None)):
        modules = items, oai_conversation, session_persistence, turn_resolution
        _set_everywhere("drop_orphan_function_calls", _Paired, *modules)


class _Paired:
    """Messages, reasoning and calls of functions that all have outputs as they are; what else is there `slowly`."""

    def __init__(self, slowly: Callable[..., list[Any]]) -> None:
        self._slowly = slowly

    @classmethod
    def fits(cls, original: Callable[..., list[Any]] | None) -> bool:
        """Return whether the SDK takes nothing from such items, and it is not made faster yet."""
        call = {"type": "function_call", "call_id": "1"}
        paired = [{"role": "user"}, {"type": "reasoning"}, call, {"type": "function_call_output", "call_id": "1"}]
        return original is not None and not isinstance(original, cls) and original(paired) == paired

    def __call__(self, items: list[Any], **options: Any) -> list[Any]:
        # Of outputs without calls the SDK drops some, if it is told where.
        others = [name for name, value in options.items() if name != "pruning_indexes" and value is not None]
        return self._slowly(items, **options) if others or not self.are_paired(items) else list(items)

    @staticmethod
    def are_paired(items: list[Any]) -> bool:
        """Return whether there are only messages, reasoning, and calls of functions with their outputs."""
        calls, outputs = set[str](), set[str]()
        for item in items:
            kind = item.get("type", "message") if type(item) is dict else None
            if kind in ("message", "reasoning"):
                continue
            call_id = item.get("call_id") if kind in ("function_call", "function_call_output") else None
            if type(call_id) is not str:
                return False
            (calls if kind == "function_call" else outputs).add(call_id)
        return calls <= outputs


def take_history_faster() -> None:
    """Have the SDK take the items of our sessions as they are: `prepare_input_with_session`.

    It copies each item of a session's history four times, and looks through all of them three times, to make of
    whatever a session may give what a model can be sent. Ours gives copies of plain JSON, of which one look tells
    whether anything is to be done.
    """
    from agents import run
    from agents.run_internal import run_loop, session_persistence

    if _History.fits(getattr(session_persistence, "prepare_input_with_session", None)):
        _set_everywhere("prepare_input_with_session", _History, session_persistence, run, run_loop)


class _History:
    """What a session has and what is new, where nothing of it is to be changed; otherwise what is made `slowly`."""

    _TAKES = (
        "input",
        "session",
        "session_input_callback",
        "session_settings",
        "include_history_in_prepared_input",
        "preserve_dropped_new_items",
        "reasoning_item_id_policy",
        "wrapper",
    )

    def __init__(self, slowly: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        from agents.items import ItemHelpers
        from agents.run_internal.items import _dedupe_key, ensure_input_item_format

        self._slowly = slowly
        self._new_items, self._formatted = ItemHelpers.input_to_new_input_list, ensure_input_item_format
        self._key = _dedupe_key

    @classmethod
    def fits(cls, original: Callable[..., Coroutine[Any, Any, Any]] | None) -> bool:
        """Return whether the SDK makes of such items what we make, and it is not made faster yet."""
        if original is None or isinstance(original, cls) or tuple(signature(original).parameters) != cls._TAKES:
            return False
        sample = _Sample(
            [
                {"role": "user", "content": "2?"},
                {"type": "reasoning", "id": "r", "summary": []},
                {"type": "function_call", "id": "f", "call_id": "1", "name": "n", "arguments": "{}", "status": "x"},
                {"type": "function_call_output", "call_id": "1", "output": "2"},
                {
                    "type": "message",
                    "id": "m",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "2."}],
                },
            ]
        )
        try:
            return bool(_at_once(original("3?", sample, None)) == _at_once(cls(original)("3?", sample, None)))
        except Exception:
            return False

    async def __call__(
        self, input: Any, session: Any, session_input_callback: Any, session_settings: Any = None, **options: Any
    ) -> Any:
        if session_input_callback is None and self._takes_all(session, session_settings, options):
            new = [self._formatted(item) for item in self._new_items(input)]
            prepared = [*(await session.get_items()), *new]
            if self._is_plain(prepared):
                return prepared, [item.copy() for item in new]
        return await self._slowly(input, session, session_input_callback, session_settings, **options)

    @staticmethod
    def _takes_all(session: Any, settings: Any, options: dict[str, Any]) -> bool:
        limits = (getattr(each, "limit", None) for each in (settings, getattr(session, "session_settings", None)))
        return (
            getattr(session, "gives_copies", False)
            and not any(limit is not None for limit in limits)
            and options.get("include_history_in_prepared_input", True)
            and options.get("reasoning_item_id_policy") != "omit"
        )

    def _is_plain(self, items: list[Any]) -> bool:
        """Return whether nothing is to be taken from these items, and none to be left out."""
        own = _Normalized.OWN
        plain = all(type(item) is dict and own.isdisjoint(item) for item in items)
        return plain and _Paired.are_paired(items) and not _has_duplicates(items, self._key)


class _Sample:
    """A session of the SDK that has these items."""

    session_id, session_settings, gives_copies = "sample", None, True

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self._items = items

    async def get_items(self, limit: int | None = None) -> list[dict[str, Any]]:
        return [item.copy() for item in self._items]


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing. Raises `ValueError`."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise ValueError("it waits")


def compare_agents_late() -> None:
    """Have the SDK describe agents only where it compares two: `_agent_identity_sort_key`.

    It sorts those of one name by all that is in them, twice a turn, also where there is one.
    """
    from agents import _run_state_agent_identity as identity

    original = getattr(identity, "_agent_identity_sort_key", None)
    if original is not None and not hasattr(original, "compares_late"):

        def sort_key(*arguments: Any, **named: Any) -> _Late:
            return _Late(lambda: original(*arguments, **named))

        sort_key.compares_late = True  # type: ignore[attr-defined]
        identity._agent_identity_sort_key = sort_key  # type: ignore[assignment]


class _Late:
    """A sort key that is made when it is needed."""

    def __init__(self, make: Callable[[], tuple[Any, ...]]) -> None:
        self._make = make

    @cached_property
    def key(self) -> tuple[Any, ...]:
        return self._make()

    def __lt__(self, other: _Late) -> bool:
        return self.key < other.key

    def __iter__(self) -> Iterator[Any]:
        return iter(self.key)


def inspect_sessions_once() -> None:
    """Have the SDK find out once what the methods of a class of sessions take: `_session_method_accepts_wrapper`.

    It looks at their signatures six times a turn.
    """
    from agents.memory import session

    original = getattr(session, "_session_method_accepts_wrapper", None)
    if original is not None and not hasattr(original, "asks_once"):
        known: WeakKeyDictionary[FunctionType, bool] = WeakKeyDictionary()

        def accepts_wrapper(method: Any) -> bool:
            function = method.__func__ if type(method) is MethodType else None
            if type(function) is not FunctionType:
                return bool(original(method))
            if function not in known:
                known[function] = bool(original(method))
            return known[function]

        accepts_wrapper.asks_once = True  # type: ignore[attr-defined]
        session._session_method_accepts_wrapper = accepts_wrapper


def read_declarations_once() -> None:
    """Have the SDK read the type hints of its own classes once: `_declared_dataclass_type`.

    It reads all of a class for each agent, and for each run three times.
    """
    from agents import _config_coercion, model_settings, run_config

    name = "_declared_dataclass_type"
    original = getattr(_config_coercion, name, None)
    if original is not None and not hasattr(original, "asks_once"):
        of_class: Callable[..., Any] = lru_cache(maxsize=64)(original)

        def declared(owner: type[Any], *rest: Any, **named: Any) -> Any:
            return (of_class if owner.__module__.startswith("agents.") else original)(owner, *rest, **named)

        declared.asks_once = True  # type: ignore[attr-defined]
        _set_everywhere(name, lambda _: declared, _config_coercion, model_settings, run_config)


def _set_everywhere(name: str, faster: Callable[[Any], Any], *modules: Any) -> None:
    """Replace a function in the module that has it, the first, and in those that have imported it by name."""
    original = getattr(modules[0], name, None)
    if original is not None:
        replaced = faster(original)
        for module in modules:
            if getattr(module, name, None) is original:
                setattr(module, name, replaced)
