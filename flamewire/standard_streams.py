"""Standard input, output and error of a process that was started without some of them (`>&-`).

Without them the next files that are opened get their numbers, and what is printed lands in a log or a socket; Python
has None in their place, on which every use of them fails.
"""

from __future__ import annotations

import os
import sys
from typing import IO


def complete() -> None:
    """Have those that are closed be `/dev/null`. To be called before anything is opened."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def silence(file: IO[str]) -> None:
    """Nothing more is written to it: what is still buffered must not fail when the process exits, either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file.fileno())
    os.close(nowhere)
