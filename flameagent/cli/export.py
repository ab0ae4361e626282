"""An export as a command or a chat asks for it: to a file, or to standard output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flameagent import files
from flameagent.transcript import document, wording
from flameagent.transcript import export as exports

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.client.history import History


def write(screen: Screen, found: History, form: str, output: Path | None, data: Mapping[str, bytes]) -> None:
    """Write the conversation in that form, with its attachments' `data` by their hash; say what was left out.

    Raises `ClientError`; that of a damaged one after what can be read of it was written.
    """
    if output is not None and not files.is_standard_output(output):
        beside = ""
        if form == "md" and data:
            exports.save_attachments(found, data, output)
            beside = f", what was attached in {exports.folder(output)}"
        exports.save(exports.written(found, form, data, output), output)
        count = found.conversation.turn_count if found.conversation else 0
        screen.text(f"Wrote {output}, {wording.turns(count)}{beside}.")
    elif form == "json":
        screen.data(document.as_json(found, data))  # which stays JSON in any encoding
    else:
        screen.part(exports.written(found, form, data))
    if found.waiting is not None:
        screen.warning("The turn that waits for an approval was left out.")
    if found.damage:
        raise found.damage
