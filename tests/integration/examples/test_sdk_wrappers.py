"""The Agents SDK's wrappers of sessions work on ours, which they know by its methods alone."""

from __future__ import annotations

from typing import Any, cast

from agents.extensions.memory import EncryptedSession

from flameagent.conversation import FlameSession
from tests.integration.service.talk import Talk


async def test_an_encrypted_session_reads_what_it_wrote_and_flame_holds_none_of_it(talk: Talk) -> None:
    def encrypted(key: str) -> EncryptedSession:
        kept = cast("Any", FlameSession(talk.id, talk.log()))
        return EncryptedSession(talk.id, kept, key, ttl=10**9)

    first, second = {"role": "user", "content": "my secret"}, {"role": "assistant", "content": "is safe"}
    await encrypted("a key").add_items(cast("Any", [first, second]))
    assert await encrypted("a key").get_items() == [first, second]
    assert await encrypted("a key").pop_item() == second
    assert await encrypted("another key").get_items() == []
    assert len(talk.items()) == 1
    assert "secret" not in str(talk.items())
