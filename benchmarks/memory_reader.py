"""A process that uses a memory as a worker does: `python -m benchmarks.memory_reader`.

Reads one line of JSON, `{"frontend", "cache", "key", "questions"}`, and says in another what it took: milliseconds of
the first search, with the index made or found before it, and of each later one; MB that the process has grown by.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from flameagent.flame import Endpoints
from flameagent.flame.cache import ObjectCache
from flameagent.memory.person import PersonMemory

HITS = 10


def main() -> None:
    """Search."""
    asked = json.loads(sys.stdin.readline())
    cache = ObjectCache(Endpoints(asked["frontend"], asked["cache"]))
    cache.greet(60)  # the connection is there
    before = _resident()
    memory = PersonMemory(cache, asked["key"])
    took = []
    for question in asked["questions"]:
        began = time.perf_counter()
        memory.search(question, HITS)
        took.append((time.perf_counter() - began) * 1000)
    print(json.dumps({"first": took[0], "later": took[1:], "grown": _resident() - before, "turns": memory.size}))


def _resident() -> float:
    """The process's resident memory in MB; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


if __name__ == "__main__":
    main()
