"""What `--json` prints, against `docs/json-schema.json`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_FILE = Path(__file__).resolve().parents[2] / "docs" / "json-schema.json"


def check(name: str, value: Any, *, closed: bool = True) -> None:
    """Assert that a value is what the schema of that name describes; `closed`: and has no field beside."""
    Draft202012Validator({**_schema(closed), "$ref": f"#/$defs/{name.replace(' ', '%20')}"}).validate(value)


@cache
def _schema(closed: bool) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(_FILE.read_text())
    Draft202012Validator.check_schema(schema)
    return dict(_closed(schema)) if closed else schema


def _closed(schema: Any) -> Any:
    """The same with objects that have the named properties only: readers of the schema must not rely on that."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: _closed(part) for name, part in schema.items()}
    return {"additionalProperties": False, **parts} if "properties" in schema and "allOf" not in schema else parts
