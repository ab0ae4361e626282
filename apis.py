"""The messages of client and agent: `Question`, `Decision`, `Answer` and the session's `MyContext`.

Flame's SDK pickles these by name, and old sessions hold old pickles. So this module stays small, is importable
by itself, and every new field has a plain default: a field that an old pickle lacks is then read from the class.
The package `flameagent` has it, too, and a pickle says `apis` wherever the classes are.
"""

from dataclasses import dataclass
from typing import Any

APPLICATION = "openai-agent"
"""The name under which the agent is registered with Flame, unless someone chooses another."""


@dataclass
class Decision:
    """A human's decision on tool calls that wait for an approval.

    `id` names the decision, so that it is carried out once; `on` is the record that it decides on, as
    `Answer.on` and the history say; `approve` and `reject` are call IDs. `always` approves the tools of the
    approved calls for the rest of the conversation; `reason` is told to the model; `by` is who decided. `outputs`
    are what the client's own tools said, of those approved calls that are theirs, by call ID.
    """

    id: str
    on: str
    approve: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()
    reason: str = ""
    always: bool = False
    by: str = ""
    outputs: dict[str, str] | None = None


@dataclass
class Question:
    """One turn's question.

    `id` names the turn: the same ID with the same question is answered once, however often it is
    sent. Empty (a plain client): the agent uses `<session>/<task>`. `model` asks for a model by name
    for this turn; empty: the one that the agent's settings choose. `stream` is the key of a cache object
    that the answer is written to while it comes. With a `decision` it is no new question: the turn that
    waits goes on. `context` is a JSON object for the agent's tools, `user` is who asks; `attachments` are
    the images, files and texts that go with the question: each a JSON object that names an object of the session.
    `steer` is the ID of a turn that runs: the question is a message to it, put in before its next call of the model;
    a turn that ends without it leaves it a question. `memory` is the key of what the agent remembers of the user.
    `budget` is what that user may still use today, as a server says it: `tokens`, and `money` with `prices`, the
    price of a million tokens by model (`input`, `cached`, `output`), each with what the day had (`of_tokens`,
    `of_money`). `asked` is when it was asked, in epoch milliseconds; 0: nobody said. `traceparent` names the span
    that the turn is a part of, as W3C's header of that name.
    """

    question: str
    id: str = ""
    model: str = ""
    stream: str = ""
    decision: Decision | None = None
    context: dict[str, Any] | None = None
    user: str = ""
    attachments: list[dict[str, Any]] | None = None
    steer: str = ""
    memory: str = ""
    budget: dict[str, Any] | None = None
    asked: int = 0
    traceparent: str = ""


@dataclass
class Answer:
    """One turn's answer, as it was added to the conversation.

    `answer` is empty when `error` says why there is none; then nothing was added, unless the sentence
    says that it may have been. `code` sorts the errors: `model`, `tool`, `failed`, `usage`, `waiting`,
    `conflict`, `damaged`, `cancelled`, `budget_reached`. `turn` counts from 1; 0: not in a conversation, and `note`
    says why.
    With `waiting`, `pending` are the calls (`id`, `tool`, `arguments`) and `on` is what to decide on.
    `usage` counts `requests`, `input_tokens`, `cached_tokens`, `cache_write_tokens`, `output_tokens` and
    `reasoning_tokens` of the turn; `request_usage` has the same of each request, where there were several. `agent` is
    the agent that answered; `output` the JSON value of its output type, whose name is `output_type`. `attachments`
    are the hashes of those that were taken, `steered` the IDs of the messages that came while the turn ran and were
    taken into it.
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
    agent: str = ""
    output: Any = None
    output_type: str = ""
    request_usage: list[dict[str, int]] | None = None
    attachments: list[str] | None = None
    steered: list[str] | None = None


@dataclass
class MyContext:
    """The beginning of a session: kept as its CommonData, as `flamepy.service.Session` writes it.

    `prompt` is the system prompt; empty: the agent's own instructions. `messages` are the
    conversation's items before the first turn, each a JSON object of the Agents SDK as a string.
    `user` is whose session it is: only they can ask in it; empty: everybody can. `tools` are those that the client
    runs itself, each a JSON object as a string: `name`, `description` and `parameters`, a JSON schema. `model` is the
    one of all turns that name none; empty: the one that the agent's settings choose.
    """

    prompt: str = ""
    messages: list[str] | None = None
    user: str = ""
    tools: list[str] | None = None
    model: str = ""
