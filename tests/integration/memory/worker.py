"""A process that remembers and takes back turns of a person, until it has done so many or is killed.

`python -m tests.integration.memory.worker CACHE KEY NAME TURNS`; with LONGEST_FILE it can write no longer file.
"""

from __future__ import annotations

import os
import random
import resource
import sys

from flameagent.flame import Endpoints
from flameagent.flame.cache import ObjectCache
from flameagent.memory.index import IndexedTurn
from flameagent.memory.person import PersonMemory


def main(at: str, key: str, name: str, turns: str) -> None:
    if longest := int(os.environ.get("LONGEST_FILE", "0")):
        # Not between fork and exec of the test's process, which has gRPC's threads.
        resource.setrlimit(resource.RLIMIT_FSIZE, (longest, longest))
    memory = PersonMemory(ObjectCache(Endpoints("", at)), key)
    print("begun", flush=True)
    for number in range(1, int(turns) + 1):
        turn = IndexedTurn(name, number, f"{name}.{number}", 2**42 + number, f"said {number} by {name}", "heard")
        memory.add(turn, {f"fact {number % 3}": f"{name} {number}"})
        memory.search("said")
        if random.random() < 0.1:
            memory.withdraw(name, {f"{name}.{random.randint(1, number)}"})
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
