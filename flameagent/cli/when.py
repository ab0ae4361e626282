"""Times that people type: how old something is (`30d`), and a moment by its age, its date or its time."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

from flameagent.client.errors import UsageError

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
"""The units of an age."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")


def seconds(age: str) -> float:
    """Seconds of an age such as `30d`. Raises `UsageError`."""
    found = _age(age)
    if found is None:
        raise UsageError(f"An age is a number and {', '.join(SECONDS)}, such as 30d, not {age!r}.")
    return found


def moment(text: str, option: str, *, end: bool = False) -> int:
    """The moment that a text names, in epoch milliseconds: with `end` a day alone is meant to its end.

    It is an age (`2h`, `3d`), a day (`2026-01-31`, `today`, `yesterday`), a time of today (`9:30`), or both
    (`2026-01-31 9:30`, or with a zone as ISO 8601 has it); without a zone it is local time. Raises `UsageError`,
    which names the option.
    """
    now = time.time()
    if (age := _age(text)) is not None:
        return int((now - age) * 1000)
    named = " ".join(text.casefold().split())
    today = datetime.fromtimestamp(now).date()
    days = {"today": today, "yesterday": today - timedelta(days=1)}
    try:
        if named in days or _DAY.fullmatch(named):
            day = days.get(named) or datetime.fromisoformat(named).date()
            after = timedelta(days=1) if end else timedelta()
            return int((datetime(day.year, day.month, day.day) + after).timestamp() * 1000) - end
        if _CLOCK.fullmatch(named):
            named = f"{today.isoformat()} {named}"
        day_part, _, clock = named.replace("t", " ").partition(" ")
        if clock[1:2] == ":":
            clock = f"0{clock}"
        return int(datetime.fromisoformat(f"{day_part}T{clock}".upper()).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{option} is an age such as 2h or 3d, a day such as 2026-01-31, or a time such as 9:30 or "
            f"'2026-01-31 9:30', not {text!r}."
        ) from None


def period(since: str | None, until: str | None) -> tuple[int, int | None]:
    """From when to when, in epoch milliseconds, up to the end of today; 0 and None where nothing is said.

    Raises `UsageError`.
    """
    begin = max(moment(since, "--since"), 0) if since is not None else 0
    end = None
    if until is not None:
        end = min(moment(until, "--until", end=True), moment("today", "--until", end=True))
    if begin > time.time() * 1000:
        raise UsageError(f"--since is in the future: {since!r}.")
    if end is not None and end < begin:
        raise UsageError("--until is before --since.")
    return begin, end


def _age(text: str) -> float | None:
    found = re.fullmatch(r"(\d{1,9})\s*([a-z]+)", text.strip().casefold())
    return int(found[1]) * SECONDS[found[2]] if found is not None and found[2] in SECONDS else None
