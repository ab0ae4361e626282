"""The names of signals, of which the kernel has more than Python has names for."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    """A name such as `SIGKILL`, or the number of a signal without one."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
