"""The command line.

`main` begins before anything is imported that takes time: Ctrl-C and closed standard streams are met from the start.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the program; exits with its exit code."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC prints of a failed connection; ours is one sentence
    from flamewire import arrow, standard_streams

    standard_streams.complete()
    arrow.process_is_ours()
    from flameagent.cli.app import main as run

    run()
