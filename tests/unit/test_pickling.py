"""The one unpickler, against pickles that were made to do harm."""

from __future__ import annotations

import pickle
import pickletools
import struct

import pytest

from flameagent.apis import Answer, Decision, MyContext, Question
from flamewire.pickling import dumps, loads, unpickle

KINDS = (Question, Decision)
NAMES = {(module, kind.__name__): kind for kind in KINDS for module in ("apis", kind.__module__)}
QUESTION, DECISION = b"capis\nQuestion\n", b"capis\nDecision\n"
NEW = b")\x81"  # of the class on the stack
SET = b"N%s\x86b"  # attributes of what is on the stack, as slots


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def slots(**values: bytes) -> bytes:
    return SET % (b"}" + b"".join(text(name) + value + b"s" for name, value in values.items()))


def made(*opcodes: bytes) -> bytes:
    return b"\x80\x04" + b"".join(opcodes) + b"."


@pytest.mark.parametrize(
    "value",
    [
        Question("why?", "t1", decision=Decision("d1", "on")),
        Answer("x", pending=[Answer("y"), {"z": (Answer("z"),)}]),  # type: ignore[list-item]
        MyContext("prompt", ["{}"]),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", range(2, 6))
def test_what_was_pickled_comes_back_in_classes_of_the_same_name(value: object, protocol: int) -> None:
    names = {(kind.__module__, kind.__name__): kind for kind in (Question, Decision, Answer, MyContext)}
    back = unpickle(pickle.dumps(value, protocol), names)
    assert back == value and type(back) is type(value)
    assert b"flamewire" not in pickle.dumps(back, protocol)


@pytest.mark.parametrize(
    "value",
    [
        Answer("x"),
        Question("flameagent.apis", decision=Decision("d1", "on")),
        Question("cflameagent.apis\nQuestion\n"),
        Answer("x", pending=[Answer("y")]),  # type: ignore[list-item]
        [Answer("in a list")],
        "flameagent.apis",
        "nothing of ours",
        {"x": MyContext("cflameagent.apis\nMyContext\n", [])},
    ],
)
def test_what_is_written_has_the_other_names_and_is_the_same(value: object) -> None:
    kinds = (Question, Decision, Answer, MyContext)
    written = dumps(value, {(kind.__module__, kind.__name__): ("apis", kind.__name__) for kind in kinds})
    referred = {argument for opcode, argument, _ in pickletools.genops(written) if opcode.name == "GLOBAL"}
    assert all(str(name).startswith("apis ") for name in referred)
    back = loads(written, {("apis", kind.__name__): kind for kind in kinds})
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(X\x04\x00\x00\x00truetR.",
        pickle.dumps(print),
        made(QUESTION, b"\x8c\x08__init__\x93"),
        made(QUESTION, slots(text=text("polluted"))),
        made(QUESTION, slots(__setattr__=DECISION)),
        made(QUESTION, slots(__bases__=DECISION + b"\x85")),
        made(QUESTION, b"}", text("text"), text("polluted"), b"sb"),
        b"",
        b"\x80\x05",
        b"\x80\x04" + b"(" * 100_000 + b"t" * 100_000,
    ],
)
def test_what_would_run_or_change_something_is_refused(data: bytes) -> None:
    before = dict(vars(Question))
    with pytest.raises(ValueError):
        unpickle(data, NAMES)
    assert vars(Question) == before
    assert unpickle(pickle.dumps(Question("after")), NAMES) == Question("after")


def test_what_is_in_it_again_and_again_is_looked_at_once() -> None:
    nested = QUESTION + NEW + b"q\x00"
    for number in range(60):
        inner = b"h" + bytes([number])
        nested += (
            QUESTION + NEW + b"q" + bytes([number + 1]) + b"}" + text("text") + inner + b"s" + text("id") + inner
        )
        nested += b"sb"
    assert isinstance(unpickle(b"\x80\x02" + nested + b".", NAMES), Question)


def test_a_value_that_holds_itself_is_read() -> None:
    knot = QUESTION + NEW + b"q\x00}" + text("question") + b"h\x00sb"
    back = unpickle(b"\x80\x02" + knot + b".", NAMES)
    assert type(back) is Question and back.question is back
