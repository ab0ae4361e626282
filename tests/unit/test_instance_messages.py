"""The messages of an instance, against the library of protobuf."""

from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flamewire import instance_messages
from flamewire.instance_messages import SessionContext, TaskContext
from flamewire.stubs import shim, types

many = settings(max_examples=200, derandomize=True, deadline=None)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
some_bytes = st.none() | st.binary(max_size=300)
# Fields that a later Flame might add: a varint, eight bytes, text, four bytes.
later = st.lists(st.sampled_from([b"\xa0\x06\x96\x01", b"\xa1\x06" + b"8" * 8, b"\xa2\x06\x01x", b"\xa5\x064444"]))


@many
@given(session=texts, application=texts, data=some_bytes, more=later)
def test_a_session_is_read_as_it_was_written(
    session: str, application: str, data: bytes | None, more: list[bytes]
) -> None:
    context = shim.ApplicationContext(name=application, shim=types.Host, command="python", url="")
    written = shim.SessionContext(session_id=session, application=context, common_data=data).SerializeToString()
    read = instance_messages.read_session(written + b"".join(more))
    assert read == SessionContext(session, application, data)


@many
@given(task=texts, session=texts, data=some_bytes, more=later)
def test_a_task_is_read_as_it_was_written(task: str, session: str, data: bytes | None, more: list[bytes]) -> None:
    written = shim.TaskContext(task_id=task, session_id=session, input=data).SerializeToString()
    assert instance_messages.read_task(written + b"".join(more)) == TaskContext(task, data)
    assert instance_messages.read_task(b"".join(more) + written) == TaskContext(task, data)


@many
@given(code=st.integers(-(2**31), 2**31 - 1), output=some_bytes, message=st.none() | texts)
def test_a_result_is_written_as_it_is_read(code: int, output: bytes | None, message: str | None) -> None:
    expected = types.TaskResult(return_code=code, output=output, message=message)
    assert instance_messages.write_task_result(code, output, message) == expected.SerializeToString()


def test_a_large_result_is_written_too() -> None:
    output = b"x" * 4_000_000
    assert types.TaskResult.FromString(instance_messages.write_task_result(0, output)).output == output


def test_a_message_with_half_a_character_is_written_so_that_it_can_be_read() -> None:
    written = instance_messages.write_task_result(-1, message="half \ud83d")
    assert types.TaskResult.FromString(written).message == "half \\ud83d"


def test_a_result_that_says_that_it_went_well_is_one() -> None:
    result = types.Result.FromString(instance_messages.RESULT)
    assert result == types.Result(return_code=0)


@many
@given(data=st.binary(max_size=60))
@example(data=b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(data=b"\x80" * 20)
@example(data=b"\x12\x02\x0a\x05")
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for read in instance_messages.read_session, instance_messages.read_task, instance_messages.read_empty:
        with suppress(ValueError):
            read(data)


@pytest.mark.parametrize(
    "data", [b"\xff", b"\x0a\xff", b"\x0a\x05abc", b"\x0b", b"\x02\x00", b"\x0a\x01\xff", b"garbage" * 10]
)
def test_what_the_library_refuses_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        shim.SessionContext.FromString(data)
    with pytest.raises(ValueError):
        instance_messages.read_session(data)
