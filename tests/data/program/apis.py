"""The messages of client and agent: `Question`, `Decision`, `Answer` and the session's `MyContext`.

Flame's SDK pickles these by name, and old sessions hold old pickles. So this module stays small,
is importable as `apis` on both sides, and every new field has a plain default: a field that an old
pickle lacks is then read from the class.
"""

from dataclasses import dataclass

APPLICATION = "openai-agent"
"""The name under which the agent is registered with Flame, unless someone chooses another."""


@dataclass
class Decision:
    """A human's decision on tool calls that wait for an approval.

    `id` names the decision, so that it is carried out once; `on` is the record that it decides on, as
    `Answer.on` and the history say; `approve` and `reject` are call IDs. `always` approves the tools of the
    approved calls for the rest of the conversation; `reason` is told to the model; `by` is who decided.
    """

    id: str
    on: str
    approve: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()
    reason: str = ""
    always: bool = False
    by: str = ""


@dataclass
class Question:
    """One turn's question.

    `id` names the turn: the same ID with the same question is answered once, however often it is
    sent. Empty (a plain client): the agent uses `<session>/<task>`. `model` asks for a model by name
    for this turn; empty: the one that the agent's settings choose. `stream` is the key of a cache object
    that the answer is written to while it comes. With a `decision` it is no new question: the turn that
    waits goes on.
    """

    question: str
    id: str = ""
    model: str = ""
    stream: str = ""
    decision: Decision | None = None


@dataclass
class Answer:
    """One turn's answer, as it was added to the conversation.

    `answer` is empty when `error` says why there is none; then nothing was added, unless the sentence
    says that it may have been. `code` sorts the errors: `model`, `tool`, `failed`, `waiting`,
    `conflict`, `damaged`, `cancelled`. `turn` counts from 1; 0: not in a conversation, and `note` says why.
    With `waiting`, `pending` are the calls (`id`, `tool`, `arguments`) and `on` is what to decide on.
    `usage` counts `requests`, `input_tokens`, `cached_tokens`, `output_tokens` of the turn.
    """

    answer: str
    turn: int = 0
    turn_id: str = ""
    model: str = ""
    usage: dict[str, int] | None = None
    pending: list[dict[str, str]] | None = None
    on: str = ""
    note: str = ""
    error: str = ""
    code: str = ""


@dataclass
class MyContext:
    """The beginning of a session: kept as its CommonData, as `flamepy.service.Session` writes it.

    `prompt` is the system prompt; empty: the agent's own instructions. `messages` are the
    conversation's items before the first turn, each a JSON object of the Agents SDK as a string.
    """

    prompt: str = ""
    messages: list[str] | None = None
