"""The resources that a session asks for each of its executors, as Flame's own configuration writes them."""

from __future__ import annotations

import re
from typing import NamedTuple

_UNITS = {unit: 1024**power for power, unit in enumerate(("", "k", "m", "g", "t"))}  # Flame's k is 1024, too
_MEMORY = re.compile(r"(\d{1,15})\s*([kmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_MOST = {"cpu": 2**63 - 1, "gpu": 2**31 - 1, "mem": 2**63 - 1}


class Resources(NamedTuple):
    """Cores, bytes of memory, and GPUs."""

    cpu: int
    memory: int
    gpu: int

    @classmethod
    def parse(cls, text: str) -> Resources:
        """Read a text like `cpu=0,mem=64m`; what it does not name is 0. Raises `ValueError`, the end of a sentence.

        Source: `ResourceRequirement::parse` of Flame 0.6.0, which takes fractions of a unit of memory, too.
        """
        found: dict[str, int] = {}
        for part in text.split(","):
            name, _, value = (each.strip().lower() for each in part.partition("="))
            name = {"memory": "mem"}.get(name, name)
            if name not in _MOST or name in found:
                raise ValueError(_wrong(text))
            matched = _MEMORY.fullmatch(value) if name == "mem" else re.fullmatch(r"(\d{1,15})()", value, re.ASCII)
            if matched is None:
                raise ValueError(_wrong(text))
            found[name] = int(matched[1]) * _UNITS[matched[2].lower()]
            if found[name] > _MOST[name]:
                raise ValueError(_wrong(text))
        return cls(found.get("cpu", 0), found.get("mem", 0), found.get("gpu", 0))


def _wrong(text: str) -> str:
    return f"is resources such as cpu=0,mem=64m, not {text!r}"
