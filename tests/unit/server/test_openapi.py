"""docs/openapi.json says what the program's declarations say, and refers to nothing that is not there."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

from jsonschema import Draft202012Validator

DOCS = Path(__file__).parents[3] / "docs"
MADE = runpy.run_path(str(DOCS / "openapi.py"))


def test_the_document_is_up_to_date() -> None:
    found = json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(MADE["document"]())), "run: uv run python docs/openapi.py"


def test_the_document_holds_together() -> None:
    document = MADE["document"]()
    schemas = document["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert name in schemas
    assert "#/$defs" not in json.dumps(document)
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    names = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(names) == len(set(names)) > 15
