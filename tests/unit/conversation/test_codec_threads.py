"""Types are looked at for the first time by one thread at a time: msgspec ends the process otherwise."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from flameagent.conversation import codec


class Unhashable:
    """Something that an annotation may hold."""

    __hash__ = None  # type: ignore[assignment]


def test_a_type_is_looked_at_under_a_lock_before_anything_is_converted_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class New(msgspec.Struct):
        name: str

    locked: list[bool] = []
    made, convert = msgspec.json.Decoder, msgspec.convert

    def decoder(kind: Any) -> Any:
        locked.append(codec._MAKING.locked())
        return made(kind)

    def converted(value: Any, kind: Any, **how: Any) -> Any:
        assert locked
        return convert(value, kind, **how)

    monkeypatch.setattr(msgspec.json, "Decoder", decoder)
    monkeypatch.setattr(msgspec, "convert", converted)
    assert codec.convert({"name": "x"}, New).name == "x"
    assert locked == [True]
    assert codec.convert({"name": "x"}, Annotated[New, Unhashable()]).name == "x"
    assert locked == [True, True]
