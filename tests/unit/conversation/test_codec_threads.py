"""Types are looked at for the first time by one thread at a time: msgspec ends the process otherwise."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flameagent.conversation import codec


def test_a_type_is_looked_at_under_a_lock_before_anything_is_converted_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class New(msgspec.Struct):
        name: str

    locked: list[bool] = []
    made, convert = msgspec.json.Decoder, msgspec.convert

    def decoder(kind: Any) -> Any:
        locked.append(codec._MAKING.locked())
        return made(kind)

    def converted(value: Any, kind: Any) -> Any:
        assert kind in codec._DECODERS
        return convert(value, kind)

    monkeypatch.setattr(msgspec.json, "Decoder", decoder)
    monkeypatch.setattr(msgspec, "convert", converted)
    assert codec.convert({"name": "x"}, New).name == "x"
    assert locked == [True]
