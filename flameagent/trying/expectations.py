"""What is expected of the turns of a conversation: a YAML file beside the file of the conversation.

Promises that what is wrong with it is said with its file and line before anything is asked, and that every
expectation that is read can fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeAlias

import msgspec
import yaml

from flameagent import files
from flameagent.client.errors import UsageError
from flameagent.conversation.codec import convert

ENDING = ".expect.yaml"
"""What the name of the file ends with; before it stands that of the conversation, without its `.json`."""

_Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
_Texts: TypeAlias = _Text | list[_Text]


class ExpectedCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of a tool with at least these arguments."""

    tool: _Text
    arguments: dict[str, Any] = {}


_Calls: TypeAlias = _Text | list[_Text | ExpectedCall]


class ExpectedTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is expected of a turn, by its number in the file.

    Its answer `contains` texts, and others not; it `calls` tools, and others not; its output fits a `json_schema`;
    and a `judge` says yes to what stands there in words.
    """

    turn: Annotated[int, msgspec.Meta(ge=1)]
    contains: _Texts = []
    not_contains: _Texts = []
    calls: _Calls = []
    not_calls: _Texts = []
    json_schema: dict[str, Any] | None = None
    judge: _Texts = []


class Expectations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    turns: Annotated[list[ExpectedTurn], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class Expectation:
    """One thing that is expected: of which kind, and what: a text, a call, or a schema."""

    kind: str
    what: Any

    def __str__(self) -> str:
        """The expectation as people read it."""
        match self.what:
            case ExpectedCall(tool, arguments):
                return f"{self.kind} {tool}{f' with {_json(arguments)}' if arguments else ''}"
            case str():
                return f"{self.kind} {self.what}" if self.kind == "not_calls" else f"{self.kind} {_json(self.what)}"
        return self.kind


def expectations(turn: ExpectedTurn) -> list[Expectation]:
    """All that is expected of a turn, one by one."""
    found = [Expectation("contains", text) for text in _several(turn.contains)]
    found += [Expectation("not_contains", text) for text in _several(turn.not_contains)]
    for call in _several(turn.calls):
        found.append(Expectation("calls", ExpectedCall(call) if isinstance(call, str) else call))
    found += [Expectation("not_calls", tool) for tool in _several(turn.not_calls)]
    found += [] if turn.json_schema is None else [Expectation("json_schema", turn.json_schema)]
    return [*found, *(Expectation("judge", text) for text in _several(turn.judge))]


def read(file: Path, turns: list[int]) -> list[ExpectedTurn]:
    """What is expected in that file, of a conversation with these turns. Raises `UsageError`."""
    try:
        text = files.read(file)
    except (OSError, files.NotText) as error:
        raise UsageError(f"{file} cannot be read: {files.why(error)}.") from error
    lines: dict[str, int] = {}
    try:
        value = _value(_document(text), "$", lines)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        what = str(getattr(error, "problem", "") or "it is no YAML")
        _refuse(file, mark.line + 1 if mark else 1, what)
    except RecursionError:
        _refuse(file, 1, "it is nested too deep")
    try:
        found: list[ExpectedTurn] = convert(value, Expectations).turns
    except (ValueError, RecursionError) as error:
        _refuse(file, _line(str(error), lines), str(error))
    seen = set[int]()
    for place, turn in enumerate(found):
        path = f"$.turns[{place}]"
        where = lines.get(f"{path}.turn", lines.get(path, 1))
        if turn.turn not in turns:
            there = f"{turns[0]} to {turns[-1]}" if turns else "none"
            _refuse(file, where, f"there is no turn {turn.turn} in the conversation, whose turns are {there}")
        if turn.turn in seen:
            _refuse(file, where, f"turn {turn.turn} is there twice")
        seen.add(turn.turn)
        if not expectations(turn):
            _refuse(file, where, f"nothing is expected of turn {turn.turn}")
        if turn.json_schema is not None and (wrong := _wrong_schema(turn.json_schema)):
            _refuse(file, lines.get(f"{path}.json_schema", where), f"the json_schema is none: {wrong}")
    return found


def _wrong_schema(schema: dict[str, Any]) -> str:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        path = ".".join(map(str, error.absolute_path))
        return f"{path}: {error.message}" if path else str(error.message)
    return ""


def _refuse(file: Path, line: int, why: str) -> NoReturn:
    raise UsageError(f"{file}, line {line}: {' '.join(why.split()).rstrip('.')}. Nothing was asked.")


def _several(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class _Loader(yaml.SafeLoader):
    """Reads YAML as JSON would have it: dates are texts, and so are `yes` and `no`."""


_JSON_SCALARS = {
    "tag:yaml.org,2002:bool": re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    "tag:yaml.org,2002:int": re.compile(r"^-?(?:0|[1-9][0-9]*)$"),
    "tag:yaml.org,2002:float": re.compile(r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$"),
    "tag:yaml.org,2002:null": re.compile(r"^(?:~|null|Null|NULL|)$"),
}
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern in _JSON_SCALARS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, None)


def _document(text: str) -> yaml.Node:
    """The nodes of the one document. Raises `yaml.YAMLError`; for aliases, too, which can make much of little."""
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise _wrong("aliases are not read here", event)
    node = yaml.compose(text, Loader=_Loader)
    if node is None:
        raise yaml.MarkedYAMLError(problem="it is empty")
    return node


def _wrong(what: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=at.start_mark)


def _value(node: yaml.Node, path: str, lines: dict[str, int]) -> Any:
    """The value of a node, with the line of each part of it."""
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, f"{path}[{place}]", lines) for place, each in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        made: dict[str, Any] = {}
        for key, each in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _wrong("a name is no text", key)
            if key.value in made:
                raise _wrong(f"{key.value} is there twice", key)
            lines[f"{path}.{key.value}"] = key.start_mark.line + 1
            made[key.value] = _value(each, f"{path}.{key.value}", lines)
        return made
    return _scalar(node)


def _scalar(node: yaml.Node) -> Any:
    match node.tag.rpartition(":")[2]:
        case "bool":
            return node.value.lower() == "true"
        case "int" | "float" as kind if not _JSON_SCALARS[f"tag:yaml.org,2002:{kind}"].match(node.value):
            raise _wrong(f"{node.value!r} is no number", node)
        case "int":
            return int(node.value) if len(node.value) < 400 else node.value
        case "float":
            return float(node.value)
        case "null":
            return None
    return node.value


def _line(why: str, lines: dict[str, int]) -> int:
    """The line that an error of msgspec is about."""
    found = re.search(r"at `(?:key in )?(\$[^`]*)`", why)
    path = found[1] if found else "$"
    if named := re.search(r"unknown field `([^`]*)`", why):
        path = f"{path}.{named[1]}"
    return next((lines[each] for each in _outwards(path) if each in lines), 1)


def _outwards(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
