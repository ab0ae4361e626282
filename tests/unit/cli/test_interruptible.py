"""Ctrl-C in the middle of anything is Ctrl-C, whatever the code that it came into makes of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from flameagent.cli.terminal.signals import interruptible, raise_from_now_on
from flameagent.client.errors import ClientError


def _in_a_lock() -> None:
    """What `Condition.wait` comes to when it is interrupted before it has its lock again."""
    condition = threading.Condition()
    with condition:
        condition.release()
        raise KeyboardInterrupt


def _translated() -> None:
    try:
        _in_a_lock()
    except RuntimeError as error:
        raise ClientError("The engine went away.") from error


@pytest.mark.parametrize("code", [_in_a_lock, _translated])
def test_what_an_interrupt_has_become_is_the_interrupt(code: object) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        code()  # type: ignore[operator]


class _TakenDown:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_destructor_swallows_is_raised_at_the_end() -> None:
    before = signal.getsignal(signal.SIGINT)
    raise_from_now_on()
    try:
        with pytest.raises(KeyboardInterrupt), interruptible():
            _TakenDown()
        with interruptible():
            pass  # and that one only
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ClientError), interruptible():
        try:
            raise OSError
        except OSError as error:
            raise ClientError("No.") from error


_HANGS = """
import threading
from functools import partial
from flameagent.cli.terminal.screen import Screen
from flameagent.cli.terminal.signals import leave_within
from flameagent.client.errors import Interrupted

screen, left, lock = Screen(), Interrupted("It goes on."), threading.Lock()
{said}
leave_within(0.2, partial(screen.error, left))
lock.acquire()
lock.acquire()
"""


@pytest.mark.parametrize("said", ["", "screen.error(left)"], ids=["unsaid", "said"])
def test_a_way_out_that_hangs_ends_all_the_same_and_says_it_once(said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _HANGS.format(said=said)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "It goes on.\n")
