"""What an agent remembers of a person, for the person: shown, searched, taken elsewhere, forgotten and erased.

Promises that whoever repeats what a killed process was doing brings it to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from flameagent import files
from flameagent.apis import MyContext
from flameagent.client import by_meaning, sessions
from flameagent.client.agent_connection import AgentConnection
from flameagent.client.approvals import current_user
from flameagent.client.arguments import methods_checked
from flameagent.client.connection import translate_errors, undisturbed
from flameagent.client.errors import ClientError, DamagedError, UsageError
from flameagent.client.fork import Copy
from flameagent.client.person import find_memory, open_memory
from flameagent.conversation import Conversation, ConversationError, ConversationLog, EditBody, Facts, context
from flameagent.conversation.codec import convert, decode
from flameagent.flame import NotFound, NotOpen
from flameagent.flame.frontend import Session
from flameagent.memory import place
from flameagent.text import all_well_formed
from flamewire.failpoints import failpoint

if TYPE_CHECKING:  # they bring SQLite, which a question does not need
    from flameagent.memory.index import IndexedTurn
    from flameagent.memory.person import Fact, PersonMemory

FORMAT = "flame-agent memory"
VERSION = 1
NOBODY = "Nobody is named whose memory it is: say --user NAME, or set FLAME_AGENT_USER."


@dataclass(frozen=True)
class Found:
    """A turn that a search has found; `at` is in epoch milliseconds, and the best has the highest `score`.

    `by_meaning` says that the search went by words and by meaning, not by words only.
    """

    session_id: str
    turn: int
    question: str
    answer: str
    at: int
    score: float
    by_meaning: bool = False


@dataclass(frozen=True)
class Erased:
    """What was erased of a person: `sessions` are those whose facts went, or that were `deleted` as a whole."""

    user: str
    sessions: list[str]
    deleted: bool


class ExportedTurn(msgspec.Struct, frozen=True):
    """A remembered turn in a file; `at` is epoch milliseconds."""

    session_id: str
    turn: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
    turn_id: Annotated[str, msgspec.Meta(min_length=1)]
    at: Annotated[int, msgspec.Meta(ge=0, le=253_370_764_800_000)]
    question: str
    answer: str
    facts: Facts = {}


class ExportedMemory(msgspec.Struct, frozen=True):
    """What is remembered of a person, in a file."""

    format: Literal["flame-agent memory"]
    version: Annotated[int, msgspec.Meta(ge=1)]
    turns: list[ExportedTurn]
    user: str = ""


@methods_checked
class Memory:
    """What the agent remembers of one person. Made by `Client.memory`.

    Each method raises `ClientError`: `DamagedError` where it cannot be read, which stops no turn.
    """

    def __init__(self, connection: AgentConnection, user: str) -> None:
        """Raises `UsageError` where nobody is named."""
        if not user:
            raise UsageError(NOBODY)
        self.user = user
        self.note = ""  # of the newest search
        self._connection = connection
        self._read: dict[str, PersonMemory] = {}

    def facts(self) -> list[Fact]:
        """The facts that hold, the oldest first, each with those that it took the place of."""
        with self._told():
            memory = self._found()
            return memory.facts() if memory else []

    def turns(self) -> list[IndexedTurn]:
        """The turns that are remembered, in the order in which they came."""
        with self._told():
            memory = self._found()
            return memory.turns() if memory else []

    def search(self, text: str, limit: int = 10) -> list[Found]:
        """The turns that fit a text best, the best first.

        By meaning, too, where `AGENT_EMBEDDINGS` names a model; where that cannot be, `note` says why.
        """
        with self._told():
            memory = self._found()
            found = (
                by_meaning.search(memory, text, limit, self._connection.environ) if memory else by_meaning.Hits([])
            )
        self.note = found.note
        return [
            Found(turn.session, turn.number, turn.question, turn.answer, turn.at, score, found.by_meaning)
            for turn, score in found.turns
        ]

    def forget(self, key: str) -> list[str] | None:
        """Forget a fact everywhere; the sessions that had it. None where nobody knows it.

        The turns in which it was learned stay.
        """
        key, by = " ".join(key.casefold().split()), current_user()
        with self._told():
            memory = self._found()
            if memory is not None:
                memory.facts()  # a damaged one is told before anything changes
            edited = []
            for session, log in self._own():
                if key in log.conversation.facts:
                    log.append(EditBody("forget", keys=[key], by=by))
                    failpoint("erase: in a session")
                    edited.append(session.id)
            known = memory.forget(key, by) if memory else False
        return edited if known or edited else None

    def export(self) -> dict[str, Any]:
        """Everything, as `restore` takes it back: a JSON object."""
        with self._told():
            memory = self._found()
            learned = memory.learned() if memory else []
            facts = memory.facts() if memory else []
        turns = [
            ExportedTurn(turn.session, turn.number, turn.turn, turn.at, turn.question, turn.answer, changed)
            for turn, changed in learned
        ]
        return {
            "format": FORMAT,
            "version": VERSION,
            "user": self.user,
            "facts": [fact_as_json(fact) for fact in facts],
            "turns": msgspec.to_builtins(turns),
        }

    def restore(self, exported: ExportedMemory) -> int:
        """Remember what was exported, here or elsewhere; how many turns were new."""
        from flameagent.memory.index import IndexedTurn

        with self._told():
            self._connection.greet()
            memory = self._at(open_memory(self._connection, self.user))
            return sum(
                memory.add(
                    IndexedTurn(each.session_id, each.turn, each.turn_id, each.at, each.question, each.answer),
                    each.facts,
                    again=True,
                )
                for each in exported.turns
            )

    def erase(self, sessions: bool = False) -> Erased:
        """Forget all of the person: what is remembered, and the facts in their conversations.

        With `sessions` all sessions that are theirs are deleted, too, and no text of theirs is left. A mark stays, by
        which nothing from before is remembered again. What cannot be erased is told when all else is done, and the
        same call may be made again.
        """
        with self._told():
            self._connection.greet()
            with translate_errors():
                self._mark()
        edited: list[str] = []
        failed: list[ClientError] = []
        for session, log in self._own():
            try:
                with translate_errors(session.id):
                    if self._erase_in(session, log, delete=sessions):
                        edited.append(session.id)
            except ClientError as error:
                failed.append(error)
        with self._told():
            self._begin_anew()
        if failed:
            raise failed[0]
        return Erased(self.user, edited, sessions)

    def _keep(self, session_id: str) -> None:
        from flameagent.memory.index import IndexedTurn

        with self._told():
            memory = self._at(open_memory(self._connection, self.user))
            log = self._connection.log(self._connection.frontend.session(session_id))
            for turn, _ in log.load_all().turns() if log else ():
                facts = {key: value for key, value in turn.facts.items() if key not in turn.own_facts}
                answer = str(turn.answer.get("answer", ""))
                said = IndexedTurn(session_id, turn.number, turn.id, turn.at, turn.question, answer)
                memory.add(said, facts, again=True)

    def _mark(self) -> None:
        """Have nothing from before come back, whatever becomes of this process."""
        with suppress(ConversationError):  # a damaged one goes as a whole
            self._at(open_memory(self._connection, self.user)).erase()
        failpoint("erase: marked")

    def _erase_in(self, session: Session, log: ConversationLog, *, delete: bool) -> bool:
        if delete:
            sessions.delete(self._connection, session.id)
            failpoint("erase: session deleted")
            return True
        conversation = log.load_all()
        if not (conversation.facts or any(turn.facts for turn, _ in conversation.turns())):
            return False
        log.append(EditBody("forget", by=current_user()))
        failpoint("erase: in a session")
        return True

    def _begin_anew(self) -> None:
        """Delete every object, with the index on this node, and begin again with the mark alone.

        That has the person's name hashed. While there is no memory, another session says so, by which a turn that
        begins one marks it.
        """
        from flameagent.memory import index_file

        application = self._connection.application.name
        session_id, prefix = place.session_id(application, self.user), place.prefix(application, self.user)
        erasing_id = place.erasing_id(application, self.user)
        cache, frontend = self._connection.cache, self._connection.frontend
        with suppress(NotOpen):  # who was killed when it had ended left it closed
            frontend.create_session(erasing_id, place.HOLDER, None)
        failpoint("erase: announced")
        while True:
            self._delete(session_id)
            failpoint("erase: session gone")
            cache.delete(prefix)
            index_file.remove_all(prefix)
            failpoint("erase: objects gone")
            reference = cache.put(prefix, context.write(MyContext()))
            self._at(reference.key).erase()
            failpoint("erase: begun anew")
            made = frontend.create_session(session_id, place.HOLDER, reference.encode())
            if made.common_data == reference.encode():  # otherwise a turn has begun one in between
                break
        failpoint("erase: memory made")
        self._delete(erasing_id)

    def _delete(self, session_id: str) -> None:
        with suppress(NotFound):
            self._connection.frontend.close_session(session_id)
            failpoint("erase: session closed")
            self._connection.frontend.delete_session(session_id)

    def _found(self) -> PersonMemory | None:
        self._connection.greet()
        key = find_memory(self._connection, self.user)
        return self._at(key) if key else None

    def _at(self, key: str) -> PersonMemory:
        from flameagent.memory.person import PersonMemory

        if key not in self._read:
            self._read = {key: PersonMemory(self._connection.cache, key, undisturbed)}
        return self._read[key]

    def _own(self) -> Iterator[tuple[Session, ConversationLog]]:
        """The sessions that are the person's, with what can be read of them."""
        for session in self._connection.sessions():
            try:
                log = self._connection.log(session)
                known = log.refresh() if log else Conversation()
            except (DamagedError, ConversationError):
                continue  # whose it is cannot be told
            if log is not None and known.owner == self.user:
                yield session, log

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with translate_errors():
                yield
        except DamagedError as error:
            if error.session_id:
                raise
            raise DamagedError(
                f"What is remembered of {self.user} is damaged: {error} `memory erase` begins it anew."
            ) from error


def remember_import(connection: AgentConnection, copy: Copy, user: str) -> Copy:
    """Remember the turns of a session that the user has imported; where that cannot be, `left` says why."""
    if not (user and connection.remembers):
        return copy
    try:
        Memory(connection, user)._keep(copy.session_id)
    except ClientError as error:
        return replace(copy, left=f"{copy.left} It is not remembered: {error}".strip())
    return copy


def fact_as_json(fact: Fact) -> dict[str, Any]:
    """A fact as `memory list --json` prints it, with those that it took the place of."""
    plain = {"key": fact.key, "value": fact.value, "session_id": fact.session, "turn": fact.turn, "at": fact.at}
    return {**plain, "superseded": [fact_as_json(each) for each in fact.superseded]}


def read(data: bytes, name: str) -> ExportedMemory:
    """What `memory export` wrote, in a file of that name. Raises `UsageError` for anything else."""
    name = "Standard input" if name == "-" else name
    try:
        exported: ExportedMemory = decode(files.decoded(data).encode(), ExportedMemory)
        exported = convert(all_well_formed(msgspec.to_builtins(exported)), ExportedMemory)
    except ValueError as error:
        raise UsageError(f"{name} is not what `memory export` writes: {error}.") from error
    if exported.version > VERSION:
        raise UsageError(f"{name} was written by a newer version of this program (version {exported.version}).")
    return exported
