"""The long run: prints its seed, what happens, and a table; exits with 1 if anything is wrong."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.agents import LIGHT, SDK
from tests.chaos.http_storm import HttpStorm
from tests.chaos.storm import Storm


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--turns", type=int, default=500, help="how many turns are asked at least")
    parser.add_argument("--kills", type=int, default=100, help="how many processes are killed at least")
    parser.add_argument("--sessions", type=int, default=4, help="how many conversations go on at once")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="what is killed when")
    parser.add_argument("--light", action="store_true", help="an agent without the Agents SDK, which starts sooner")
    parser.add_argument("--http", action="store_true", help="everybody asks over HTTP; the server is killed, too")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {given.seed}, in {folder}", flush=True)
    begun, said = time.monotonic(), ""

    def say(what: str) -> None:
        nonlocal said
        if what != said:
            said = what
            print(f"{time.monotonic() - begun:6.0f} s  {what}", flush=True)

    storm = (HttpStorm if given.http else Storm)(
        folder, LIGHT if given.light else SDK, seed=given.seed, sessions=given.sessions, say=say
    )
    report = storm.run(turns=given.turns, kills=given.kills)
    print(f"\nseed {report.seed}, {report.seconds:.0f} s\n\n{report.table()}\n")
    for wrong in report.wrong:
        print(wrong)
    print("Nothing is wrong." if not report.wrong else f"{len(report.wrong)} things are wrong.")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
