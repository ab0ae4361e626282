"""What a client notes of a session, and what a session begins with beside its prompt."""

from __future__ import annotations

import json

from flameagent.apis import MyContext
from flameagent.conversation import Call, DecisionBody, EditBody, PendingBody, context
from tests.support.conversations import cold, conversation, turn


def test_metadata_are_no_change_and_carry_the_version_that_knows_them() -> None:
    cache, key, log = conversation(2)
    before = log.refresh().revision
    log.append(EditBody("metadata", metadata={"customer": "7"}))
    assert log.conversation.revision == before
    row = json.loads(cache.objects[key].patches[-1][1] or b"")
    assert (row["v"], row["op"]) == (6, "metadata"), "an older program refuses it by this number"
    log.append(turn("t2"), revision=before)
    log.append(EditBody("metadata", metadata={"order": "8"}))
    assert cold(cache, key).load_all().metadata == {"order": "8"}, "the newest are all that there are"


def test_they_stay_when_turns_are_taken_back() -> None:
    _, _, log = conversation(2)
    log.append(EditBody("metadata", metadata={"customer": "7"}))
    log.append(log.load_all().rewind_edit(0))
    assert log.conversation.metadata == {"customer": "7"}


def test_what_a_client_runs_is_of_a_version_that_knows_it() -> None:
    waits = PendingBody("t", "?", [Call("c1", "door", "{}", runner="client")], {}, [])
    assert waits.version == 6
    assert PendingBody("t", "?", [Call("c1", "door", "{}")], {}, []).version == 1
    assert DecisionBody("d", "r", ["c1"], outputs={"c1": "open"}).version == 6
    assert DecisionBody("d", "r", ["c1"]).version == 1


def test_a_session_begins_with_tools_of_its_client_and_a_model() -> None:
    base = context.read(context.write(MyContext("prompt", None, "ada", ['{"name": "door"}'], "large")))
    assert (base.tools, base.model) == (('{"name": "door"}',), "large")
    older = MyContext("prompt")
    for name in ("tools", "model"):
        older.__dict__.pop(name)
    assert context.read(context.write(older))[3:] == ((), "")
