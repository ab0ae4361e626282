"""An evaluation on a terminal: a line for each expectation, and what was there instead where one does not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flameagent.transcript import wording

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.trying.evaluation import Evaluation

_WORDS = {"passed": "holds", "failed": "FAILS", "error": "ERROR"}


def show(screen: Screen, found: Evaluation) -> None:
    """All of it."""
    for case in found.cases:
        screen.heading(case.name)
        for turn in case.turns:
            for check in turn.checks:
                expected = " ".join(str(check.expectation).split())
                screen.text(f"  turn {turn.number:<3}  {_WORDS[check.outcome]}  {expected}", folded=True)
                if check.message and (check.outcome != "passed" or check.expectation.kind == "judge"):
                    screen.field(" " * 19, check.message)
    turns = sum(len(case.turns) for case in found.cases)
    several = f"{len(found.cases)} conversation{'' if len(found.cases) == 1 else 's'}, {wording.turns(turns)}"
    counts = [f"{found.count('passed')} hold", f"{found.count('failed')} fail"]
    counts += [f"{found.count('error')} could not be looked at"] if found.count("error") else []
    screen.heading(f"{several}: {', '.join(counts)}")
