"""What requests of the Agents API say, checked by hand: what fits, what has no counterpart here, and what is wrong.

Promises a sentence and the field that it is about for everything that is refused, before anything is done.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from starlette.requests import Request

from flameagent.client.attachments import Attachment
from flameagent.server.dialects.agents_api.objects import FAILED
from flameagent.server.errors import RequestError

_PAIRS, _KEY, _VALUE = 16, 64, 512
_PAGE, _LONGEST_PAGE = 20, 100
_EVENTS = 50
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_DATA = re.compile(r"data:image/([a-z0-9.+-]+);base64,(.*)", re.DOTALL)
_INPUT = "agent.session.input."


def refuse(param: str, message: str) -> NoReturn:
    """Refuse a request because of one field."""
    raise RequestError(400, message, code="invalid_request_error", param=param)


@dataclass(frozen=True)
class Input:
    """What a user says: a text and images."""

    text: str
    images: list[Attachment] = field(default_factory=list)


@dataclass(frozen=True)
class Creation:
    """A session that is to begin."""

    agent_id: str
    instructions: str
    model: str
    tools: list[dict[str, Any]]
    input: Input | None
    metadata: dict[str, str]
    stream: bool


@dataclass
class Inputs:
    """The events of one request, in kinds: what is said, what is decided on which calls, whether it is cancelled.

    `turn_ids` are those that results of tools name, by call.
    """

    said: list[Input] = field(default_factory=list)
    approve: list[str] = field(default_factory=list)
    reject: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    turn_ids: dict[str, str] = field(default_factory=dict)
    cancel: bool = False

    @property
    def calls(self) -> list[str]:
        """The calls that are decided on."""
        return [*self.approve, *self.reject, *self.outputs]


def creation(body: Mapping[str, Any]) -> Creation:
    """The session that a body asks for."""
    environment = body.get("environment")
    if environment is not None and (not isinstance(environment, dict) or environment.get("type") != "none"):
        refuse("environment", 'There are no environments here: environment is {"type": "none"}.')
    if body.get("vault_ids"):
        refuse("vault_ids", "There are no vaults here.")
    _refuse_settings(body)
    agent = _object(body, "agent")
    if _object(agent, "multi_agent", "agent").get("enabled"):
        refuse("agent.multi_agent", "An agent has the agents that its code gives it; none can be added.")
    if _object(agent, "reasoning", "agent").get("effort"):
        refuse("agent.reasoning", "How much the model reasons is a setting of the agent.")
    written = _object(_object(agent, "text", "agent"), "format", "agent.text")
    if written.get("type", "text") != "text":
        refuse("agent.text.format", "The form of the answer is the agent's output type: it cannot be given here.")
    if agent.get("service_tier") not in (None, "auto", "default"):
        refuse("agent.service_tier", "There are no service tiers here.")
    given = body.get("input")
    stream = _flag(body, "stream")
    said = None if given is None else message(given, "input")
    if stream and said is None:
        refuse("input", "A stream is of a turn: it needs an input.")
    return Creation(
        agent_id=_text(body, "agent_id"),
        instructions=_text(agent, "instructions", "agent"),
        model=_text(agent, "model", "agent"),
        tools=_tools(agent.get("tools")),
        input=said,
        metadata=metadata(body.get("metadata")),
        stream=stream,
    )


def update(body: Mapping[str, Any]) -> dict[str, str] | None:
    """The metadata that a body sets; None where it sets none."""
    _refuse_settings(body)
    if body.get("agent"):
        refuse("agent", "The agent of a session stays as the session began with it: begin another session.")
    return metadata(body["metadata"]) if "metadata" in body else None


def metadata(given: Any, param: str = "metadata") -> dict[str, str]:
    """Metadata."""
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        refuse(param, "metadata are texts by their keys.")
    if len(given) > _PAIRS or any(len(key) > _KEY or len(text) > _VALUE for key, text in given.items()):
        refuse(param, f"metadata are at most {_PAIRS} pairs, keys of {_KEY} characters and texts of {_VALUE}.")
    return dict(given)


def message(given: Any, param: str) -> Input:
    """What a user says: a text, or messages with texts and images."""
    if isinstance(given, str):
        given = [{"role": "user", "content": [{"type": "input_text", "text": given}]}]
    if not isinstance(given, list) or not given:
        refuse(param, "The input is a text, or a list of messages.")
    texts: list[str] = []
    images: list[Attachment] = []
    for each in given:
        if not isinstance(each, dict) or each.get("role") != "user" or each.get("type", "message") != "message":
            refuse(param, "Each message of the input is one of the role user.")
        content = each.get("content")
        parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list):
            refuse(param, "The content of a message is a list.")
        said = [_part(part, param, images) for part in parts]
        texts.append("\n".join(text for text in said if text))
    text = "\n\n".join(each for each in texts if each)
    if not text.strip():
        refuse(param, "The input has no text.")
    return Input(text, images)


def inputs(body: Mapping[str, Any]) -> Inputs:
    """The events that a body has."""
    events = body.get("events")
    if not isinstance(events, list) or not events or len(events) > _EVENTS:
        refuse("events", f"events are 1 to {_EVENTS} objects.")
    found = Inputs()
    for number, event in enumerate(events):
        param = f"events[{number}]"
        if not isinstance(event, dict):
            refuse(param, "An event is an object.")
        _read_event(event, param, found)
    if len(set(found.calls)) < len(found.calls):
        refuse("events", "One call is decided on twice.")
    return found


@dataclass(frozen=True)
class Page:
    """Which part of a list."""

    after: str
    limit: int
    ascending: bool

    @classmethod
    def of(cls, request: Request) -> Page:
        """The part that a query asks for."""
        asked = request.query_params
        limit, order = asked.get("limit", str(_PAGE)), asked.get("order", "desc")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= _LONGEST_PAGE):
            refuse("limit", f"limit is a number from 1 to {_LONGEST_PAGE}.")
        if order not in ("asc", "desc"):
            refuse("order", "order is asc or desc.")
        return cls(asked.get("after", ""), int(limit), order == "asc")

    def cut(self, ids: list[str]) -> tuple[list[int], bool]:
        """Of a list in its order the places that are on the page, and whether there are more."""
        if self.after and self.after not in ids:
            refuse("after", "after names nothing in this list.")
        start = ids.index(self.after) + 1 if self.after else 0
        end = min(start + self.limit, len(ids))
        return list(range(start, end)), end < len(ids)

    def listed(self, data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
        """The page as an object."""
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more}


def wanted_metadata(request: Request) -> dict[str, str]:
    """The pairs that a query asks for, `metadata[key]=value`."""
    found = {}
    for name, text in request.query_params.multi_items():
        if name.startswith("metadata[") and name.endswith("]"):
            found[name[len("metadata[") : -1]] = text
    return metadata(found)


def _read_event(event: dict[str, Any], param: str, found: Inputs) -> None:
    kind = str(event.get("type"))
    match kind.removeprefix(_INPUT) if kind.startswith(_INPUT) else "":
        case "message":
            found.said.append(message(event.get("input"), f"{param}.input"))
        case "cancel":
            found.cancel = True
        case "mcp_approval_request_result":
            response = _object(event, "response", param)
            decision, call = response.get("decision"), _named(event, "request_id", param)
            kind = response.get("type", "mcp_tool_call")
            if kind != "mcp_tool_call" or decision not in ("approve", "deny", "cancel"):
                refuse(f"{param}.response", "The decision on a call is approve, deny or cancel.")
            (found.approve if decision == "approve" else found.reject).append(call)
        case "tool_result":
            call = _named(event, "call_id", param)
            if call in found.outputs:
                refuse("events", "One call is decided on twice.")
            found.outputs[call] = _output(event, param)
            found.turn_ids[call] = _named(event, "turn_id", param)
        case _:
            refuse(
                f"{param}.type", "There is no such event here: message, cancel, an approval, or the result of a tool."
            )


def _output(event: dict[str, Any], param: str) -> str:
    """What a tool of the client said, or that it failed, as the model is told."""
    if not isinstance(event.get("success"), bool):
        refuse(f"{param}.success", "success is true or false.")
    if not event["success"]:
        return FAILED + (_text(event, "error", param) or "it does not say why.")
    given = event.get("output")
    if given is None or isinstance(given, str):
        return given or ""
    if not isinstance(given, list):
        refuse(f"{param}.output", "The output of a tool is a text, or a list of texts.")
    if any(not isinstance(part, dict) or part.get("type") != "input_text" for part in given):
        refuse(f"{param}.output", "The output of a client's tool has only texts here.")
    return "\n".join(_text(part, "text", f"{param}.output") for part in given)


def _part(part: Any, param: str, images: list[Attachment]) -> str:
    if not isinstance(part, dict):
        refuse(param, "A part of a message is an object.")
    if part.get("type") == "input_text":
        return _text(part, "text", param)
    if part.get("type") != "input_image":
        refuse(param, "A part of a message is an input_text or an input_image.")
    found = _DATA.fullmatch(_text(part, "image_url", param))
    if found is None:
        refuse(param, "An image comes as a data URL in base64: nothing is fetched from elsewhere.")
    try:
        data = base64.b64decode(found[2], validate=True)
    except (binascii.Error, ValueError):
        refuse(param, "The data of an image are not base64.")
    images.append(Attachment(f"image-{len(images) + 1}.{found[1].partition('+')[0]}", data))
    return ""


def _tools(given: Any) -> list[dict[str, Any]]:
    if given is None:
        return []
    if not isinstance(given, list):
        refuse("agent.tools", "agent.tools is a list.")
    found = []
    for number, each in enumerate(given):
        param = f"agent.tools[{number}]"
        if not isinstance(each, dict) or each.get("type") != "function":
            refuse(param, "Tools of a session are functions of its client; all others are those of the agent.")
        if not _TOOL_NAME.fullmatch(name := _text(each, "name", param)):
            refuse(f"{param}.name", "The name of a tool is 1 to 64 letters, digits, _ and -.")
        described = {"name": name, "description": _text(each, "description", param)}
        found.append({**described, "parameters": _object(each, "parameters", param)})
    return found


def _refuse_settings(body: Mapping[str, Any]) -> None:
    if body.get("review") not in (None, "none"):
        refuse("review", "Calls that need an approval are shown to a human: there is no automatic review here.")
    if _object(body, "spend_control").get("limit") is not None:
        refuse("spend_control", "What a session may cost cannot be limited here.")


def _object(of: Mapping[str, Any], name: str, param: str = "") -> dict[str, Any]:
    value = of.get(name)
    if value is not None and not isinstance(value, dict):
        refuse(f"{param}.{name}" if param else name, f"{name} is an object.")
    return value or {}


def _text(of: Mapping[str, Any], name: str, param: str = "") -> str:
    value = of.get(name)
    if value is not None and not isinstance(value, str):
        refuse(f"{param}.{name}" if param else name, f"{name} is a text.")
    return value or ""


def _named(of: Mapping[str, Any], name: str, param: str) -> str:
    if not (value := _text(of, name, param)):
        refuse(f"{param}.{name}", f"{name} is needed.")
    return value


def _flag(of: Mapping[str, Any], name: str) -> bool:
    value = of.get(name)
    if value is not None and not isinstance(value, bool):
        refuse(name, f"{name} is true or false.")
    return bool(value)
