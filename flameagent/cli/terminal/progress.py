"""The progress of a long list: in a line that goes again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flameagent.cli.terminal.display import TurnDisplay
    from flameagent.cli.terminal.screen import Screen
    from flameagent.client.events import OnProgress


@contextmanager
def list_progress(screen: Screen) -> Iterator[OnProgress | None]:
    """What says in a line that goes again how far a long list is, where somebody sees that."""
    if not screen.waits_visibly:
        yield None
        return
    with ExitStack() as shown:
        display: list[TurnDisplay] = []

        def tell(text: str) -> None:
            if not display:  # which most lists do not need
                from flameagent.cli.terminal.display import TurnDisplay

                display.append(TurnDisplay(screen))
                shown.enter_context(display[0].waiting())
            display[0].doing(text)

        yield tell
