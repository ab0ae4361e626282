"""The fold: which rows of the cache are the conversation's records, by their numbers; `reducers` applies them.

Promises that every reader folds the same rows to the same conversation: the first record with a number
wins, and anything out of line is named as damage, never passed over. It knows nothing of caches or agents.
"""

from __future__ import annotations

from flameagent.conversation.conversation import Conversation
from flameagent.conversation.errors import DamagedError
from flameagent.conversation.records import VERSION, EditBody, Envelope, Unreadable, read_body, read_envelope
from flameagent.conversation.reducers import REDUCERS, apply


def fold_row(conversation: Conversation, row: bytes | None) -> Envelope | None:
    """Fold one row; returns its envelope where it applied, None where it lost or nothing counts any more.

    Damage is noted in the conversation's `damage`, not raised: what came before stays readable.
    """
    if conversation.damage or conversation.next_segment:
        return None
    number = conversation.seq + 1
    try:
        envelope = read_envelope(row)
        if envelope.seq < conversation.seq:
            return None
        wrong = _out_of_line(conversation, envelope)
        if not wrong:
            body = read_body(row or b"", envelope.v)
            if isinstance(body, EditBody) and body.op == "rewind":
                rewinds = conversation.has_after(body.checkpoint.turn_count)
                wrong = "" if rewinds else f"Record {number} rewinds to a turn that is not there."
    except Unreadable as error:
        wrong = f"Record {number} cannot be read: {error}."
    if wrong:
        conversation.damage = DamagedError(number, wrong)
        return None
    apply(conversation, envelope, body, len(row or b""))
    return envelope


def _out_of_line(conversation: Conversation, envelope: Envelope) -> str:
    """Why a record that has not lost cannot be the next one; "" where it can."""
    number = conversation.seq + 1
    if envelope.seq > conversation.seq:
        missing = f"Record {number} is" if envelope.seq == number else f"Records {number} to {envelope.seq} are"
        return f"{missing} missing."
    if envelope.prev != conversation.last:
        return f"Record {number} does not follow the record before it."
    if envelope.v > VERSION or envelope.kind not in REDUCERS:
        written = f"(kind {envelope.kind!r}, version {envelope.v})"
        return f"Record {number} was written by a newer version of this program {written}."
    return ""
