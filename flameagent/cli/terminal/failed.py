"""Turns that failed on the screen: those of one session, and those of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flameagent.cli.program import program
from flameagent.transcript import wording

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.client.failures import FailedTurns
    from flameagent.client.history import History
    from flameagent.conversation.failures import Failure


def failure(screen: Screen, found: Failure) -> None:
    """A turn that failed, as a history shows it: when, who asked what, and why there was no answer."""
    about = (
        "Failed",
        wording.moment(found.ended),
        found.model,
        "after a decision" if found.decision else "",
        found.user,
    )
    screen.heading(" · ".join(filter(None, about)))
    for name in found.attachments:
        screen.note("attached", "dim", name)
    screen.item({"role": "user", "content": found.question}, whole=True)
    screen.note(found.code, "red", found.reason)
    spent = [f"took {wording.seconds(found.ended - found.began)}"] if found.began else []
    if used := found.usage.input_tokens + found.usage.output_tokens:
        spent.append(f"{used} tokens")
    if spent:
        screen.aside(f"  {', '.join(spent)}")


def of_session(screen: Screen, found: History) -> None:
    """The failures of a session alone."""
    screen.heading(f"Session {found.session_id} ({found.state}), {wording.failures(len(found.failures))}")
    for each in found.failures:
        screen.text("")
        failure(screen, each)


def sessions(screen: Screen, found: Sequence[FailedTurns]) -> None:
    """Sessions with their failures, each in two lines."""
    if screen.as_json:
        screen.data([each.as_json() for each in found])
        return
    if not found:
        screen.notice("No such turn has failed.")
        return
    for number, each in enumerate(found):
        if number:
            screen.text("")
        about = each.session.short, wording.title(each.session.title), wording.failures(len(each.failures))
        screen.heading("  ".join(filter(None, about)))
        for failed in each.failures:
            screen.text(f"  {wording.moment(failed.ended)}  {failed.code:<9}  {wording.title(failed.question)}")
            screen.aside(f"    {' '.join(failed.reason.split())}", folded=True)
    screen.notice(f"All of one: {program()} history {found[0].session.short} --failed")
