"""Make docs/openapi.json: our own routes, from their declarations and docs/json-schema.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from flameagent.server.operations import Nothing, Operation
from flameagent.server.own import operations

HERE = Path(__file__).parent
FILE = HERE / "openapi.json"
_TEXT = {"type": "string"}
_COMMANDS = "#/$defs/"
_ERROR = "What was wrong, in a sentence; where a turn was asked, what is known of it."


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    declared = operations(None)  # type: ignore[arg-type] - nothing is called
    kinds = [kind for each in declared for kind in (each.query, each.body) if kind]
    _, bodies = msgspec.json.schema_components(dict.fromkeys(kinds), ref_template="#/components/schemas/{name}")
    printed = json.loads((HERE / "json-schema.json").read_text())["$defs"]
    gives = _named({each.gives for each in declared if each.gives}, printed)
    paths: dict[str, Any] = {}
    for each in declared:
        path = re.sub(r":path}", "}", each.path)
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, path, bodies)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "flame-openai-agent",
            "version": "1",
            "description": "What no dialect has. A request has a token: `Authorization: Bearer …`.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {**bodies, **gives, "refused": _refused()},
        },
    }


def _operation(each: Operation, path: str, bodies: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in re.findall(r"{(\w+)}", path)
    ]
    query = bodies[each.query.__name__]
    for name, schema in query["properties"].items():
        required = name in query.get("required", [])
        parameters.append({"name": name, "in": "query", "required": required, "schema": schema})
    if each.method == "POST":
        parameters.append({"name": "Idempotency-Key", "in": "header", "schema": {**_TEXT, "maxLength": 500}})
    content: dict[str, Any] = {each.media: {}}
    if each.gives:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{_component(each.gives)}"}}}
    if each.may_stream:
        content["text/event-stream"] = {}
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/refused"}}}
    told: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.about,
        "parameters": parameters,
        "responses": {
            str(each.status): {"description": each.about, "content": content},
            "default": {"description": _ERROR, "content": refused},
        },
    }
    if each.query is not Nothing and each.query.__doc__:
        told["description"] = " ".join(each.query.__doc__.split())
    if each.body:
        schema = {"$ref": f"#/components/schemas/{each.body.__name__}"}
        needed = any(field.required for field in msgspec.structs.fields(each.body))
        told["requestBody"] = {"required": needed, "content": {"application/json": {"schema": schema}}}
    return told


def _refused() -> dict[str, Any]:
    maybe = {"type": ["string", "null"]}
    error = {"message": _TEXT, "type": _TEXT, "code": maybe, "param": maybe}
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {"type": "object", "required": list(error), "properties": error},
            "reply": {"$ref": "#/components/schemas/question"},
        },
    }


def _named(names: set[str], printed: dict[str, Any]) -> dict[str, Any]:
    """Those of the commands' definitions, and those that they refer to, as components."""
    found: dict[str, Any] = {}
    wanted = sorted({*names, "question"})
    while wanted:
        name = wanted.pop()
        if _component(name) not in found:
            text = json.dumps(printed[name])
            wanted += [each.replace("%20", " ") for each in re.findall(rf'"{re.escape(_COMMANDS)}([^"]+)"', text)]
            refer = re.compile(rf'"{re.escape(_COMMANDS)}([^"]+)"')
            found[_component(name)] = json.loads(
                refer.sub(lambda at: f'"#/components/schemas/{_component(at[1].replace("%20", " "))}"', text)
            )
    return dict(sorted(found.items()))


def _component(name: str) -> str:
    return name.replace(" ", "_")


def main() -> None:
    """Write it."""
    FILE.write_text(json.dumps(document(), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
