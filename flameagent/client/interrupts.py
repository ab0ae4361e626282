"""Ctrl-C: what it means before, during and after a turn, without a traceback and without a hang.

Until a question is sent the program ends where it stands, whatever is being imported or awaited; from then on
Ctrl-C is a `KeyboardInterrupt` that whoever waits for the answer handles.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from flameagent.client.errors import Interrupted

if TYPE_CHECKING:
    from flameagent.client.screen import Screen

EXIT_CODE = 130
NOTHING = "Interrupted; nothing was asked."


def leave_at_once(say: Callable[[], None] | None = None) -> None:
    """From now on Ctrl-C says something and ends the program with exit code 130."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            if say:
                say()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            # Not an exception: an import would turn it into another one, a destructor would swallow it.
            os._exit(EXIT_CODE)

    signal.signal(signal.SIGINT, leave)


def leave_unasked(screen: Screen) -> None:
    """From now on, until something is asked, Ctrl-C says that nothing was and ends the program."""

    def say() -> None:
        screen.leave()
        screen.error(Interrupted(NOTHING))

    leave_at_once(say)


def raise_from_now_on() -> None:
    """From now on Ctrl-C raises `KeyboardInterrupt`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def ignore() -> None:
    """From now on Ctrl-C does nothing: the program is ending anyway."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
