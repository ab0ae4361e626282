"""The key of the object that the events of a turn are written to: it follows from the session and the turn's ID.

So whoever goes on with a turn writes on in the same object, and whoever begins the next one can delete it.
"""

from __future__ import annotations

from hashlib import blake2b


def stream_key(application: str, session_id: str, turn_id: str) -> str:
    """The key of that turn's object in the session."""
    digest = blake2b(turn_id.encode(errors="surrogatepass"), digest_size=12).hexdigest()
    return f"{application}/{session_id}/events-{digest}"
