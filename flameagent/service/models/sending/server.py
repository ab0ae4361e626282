"""A model's server as a conversation knows it: which items are its own, what it wants back, what it has refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from flameagent.service.models.sending.tool_calls import CALLS, Item

if TYPE_CHECKING:
    from flameagent.service.models.reading.answer import WantedBack
    from flameagent.service.models.sending.sendable import Sendable

Api = Literal["chat", "responses"]


@dataclass
class Server:
    """A server that gets a request, and what it has refused before.

    `url` is the base URL without what may be a key. `refused`: "ids", those of others that are not nine letters and
    digits; "extras", what it sent with its calls; "no reasoning", calls that others made without any;
    "media", images and files.
    """

    url: str
    model: str
    api: Api
    refused: set[str] = field(default_factory=set)

    def made(self, data: Any) -> bool | None:
        """Return whether the item with this `provider_data` is of this server; None where nobody knows.

        Older records name the model alone.
        """
        if not isinstance(data, dict):
            return None
        if "server" in data:
            return bool(data["server"] == self.url)
        return True if data.get("model") == self.model else None

    def learn(self, said: str, sent: Sendable) -> bool:
        """Take from what a server said of a bad request what it refuses.

        Returns whether that is news, so that another request is worth a try.
        """
        if _ABOUT_REASONING.search(said) and _IS_MISSING.search(said):
            found = "no reasoning"
        elif _ABOUT_IDS.search(said):
            found = "ids"
        elif any(name in said for name in sent.extras()):
            found = "extras"
        elif sent.earlier_media and not sent.asks_with_media and _ABOUT_MEDIA.search(said):
            found = "media"  # a question with some fails, and says why; the next one goes on without them
        else:
            return False
        is_new = found not in self.refused
        self.refused.add(found)
        return is_new


_ABOUT_REASONING = re.compile(r"reasoning_content")
_IS_MISSING = re.compile(r"(?i)missing|must be|passed back|required")
_ABOUT_MEDIA = re.compile(r"(?i)image|vision|modal|\bfile\b|input_file|\bstring\b")
_ABOUT_IDS = re.compile(r"(?i)call[ _]?id|tool[ _]?use[._]?id|toolUseId")


def server_of(base_url: object, model: str, api: Api) -> Server:
    """Return the server at a base URL."""
    url = urlsplit(str(base_url))
    return Server(f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path.rstrip('/')}", model, api)


def note(items: list[Any], server: Server, wanted: WantedBack) -> None:
    """Note on the items of an answer who gave it, and what it wants back with its calls."""
    first = True
    for item in items:
        kind = getattr(item, "type", None)
        if kind in CALLS:
            call_id = item.call_id
            data: Item = {"server": server.url}
            if wanted.ids.get(call_id) not in (None, "", call_id):
                data["call_id"] = wanted.ids[call_id]
            if wanted.calls.get(call_id):
                data["call"] = wanted.calls[call_id]
            if first and wanted.message:
                data["message"] = wanted.message
            first = False
        elif kind == "reasoning" and server.api == "chat":
            data = {"server": server.url}
        else:
            continue
        before = getattr(item, "provider_data", None)
        item.provider_data = {**(before if isinstance(before, dict) else {}), **data}
