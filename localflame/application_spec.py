"""The specification of an application, completed and checked as Flame does, and those that every Flame has.

As session_manager/src/apiserver/frontend.rs, common/src/apis/types.rs and common/src/lib.rs of Flame 0.6.0.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from flamewire.stubs import types
from localflame.domain import DEFAULT_MAX_INSTANCES
from localflame.errors import Refused, invalid

# common/src/apis/types.rs
DEFAULT_DELAY_RELEASE = 60


def validate_application_name(name: str) -> None:
    """Raises Refused where Flame takes no such name."""
    if not name:
        raise Refused("application name cannot be empty")
    if len(name.encode()) > 253:
        raise Refused("application name exceeds maximum length of 253 characters")
    if ".." in name or "/" in name or "\\" in name:
        raise Refused(f"application name contains invalid characters (path traversal): {name}")
    if name.startswith((".", "-")):
        raise Refused(f"application name cannot start with '.' or '-': {name}")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise Refused(
            f"application name contains invalid characters (only alphanumeric, '-', '_', '.' allowed): {name}"
        )


def full_application_spec(spec: Any) -> Any:
    """The spec with Flame's defaults. Raises INVALID_ARGUMENT."""
    for part in ("input", "output", "common_data"):
        if spec.HasField("schema") and spec.schema.HasField(part):
            _check_schema(part.replace("_", " "), getattr(spec.schema, part))
    return _with_defaults(spec)


def _with_defaults(spec: Any) -> Any:
    if spec.working_directory and not os.path.isabs(spec.working_directory):  # noqa: PTH117 - a string as it came
        raise invalid(f"working_directory must be an absolute path, got: {spec.working_directory}")
    checked = types.ApplicationSpec()
    checked.CopyFrom(spec)
    environments = {variable.name: variable.value for variable in spec.environments}
    checked.ClearField("environments")
    checked.environments.extend(types.Environment(name=name, value=value) for name, value in environments.items())
    if not checked.working_directory:
        checked.ClearField("working_directory")
    if not checked.HasField("max_instances"):
        checked.max_instances = DEFAULT_MAX_INSTANCES
    if not checked.HasField("delay_release"):
        checked.delay_release = DEFAULT_DELAY_RELEASE
    return checked


def _check_schema(part: str, text: str) -> None:
    from jsonschema.exceptions import SchemaError  # slow to load, seldom needed
    from jsonschema.validators import Draft202012Validator, validator_for

    try:
        schema = json.loads(text)
        named = isinstance(schema, dict) and "$schema" in schema
        validator = validator_for(schema, default=None) if named else Draft202012Validator
        if validator is None:
            raise ValueError(f"unknown specification: {schema['$schema']}")
        validator.check_schema(schema)
    except (ValueError, SchemaError) as error:
        raise invalid(f"invalid {part} schema: {getattr(error, 'message', error)}") from None


_SCRIPT_INPUT = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "language": {"type": "string", "description": "The language of the script, e.g. python"},
        "code": {"type": "string", "description": "The code of the script to run, e.g. print('Hello, world!')"},
        "input": {
            "type": "array",
            "items": {"type": "integer", "description": "The input to the script in bytes, e.g. [0x1, 0x2]"},
        },
    },
    "required": ["language", "code"],
}
_SCRIPT_OUTPUT = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "string",
    "description": "The output of the script in UTF-8.",
}


def default_applications() -> dict[str, Any]:
    """The applications that every Flame registers at its start, by name. Their programs are those of `FLAME_HOME`.

    As `full_application_spec` makes them, which need not check the schemas below at each start.
    """
    schema = types.ApplicationSchema(
        input=json.dumps(_SCRIPT_INPUT, separators=(",", ":")),
        output=json.dumps(_SCRIPT_OUTPUT, separators=(",", ":")),
    )
    specs = {
        "flmexec": types.ApplicationSpec(
            description="The Flame Executor application, which is used to run scripts.",
            command="${FLAME_HOME}/bin/flmexec-service",
            schema=schema,
        ),
        "flmping": types.ApplicationSpec(
            url="file://${FLAME_HOME}/bin/flmping-service",
            command="${FLAME_HOME}/bin/flmping-service",
            schema=types.ApplicationSchema(),
        ),
        "flmrun": types.ApplicationSpec(
            description="The Flame Runner application for executing customized Python applications.",
            command="${FLAME_HOME}/bin/uv",
            arguments=["run", "--python", "python${FLAME_PYTHON_VERSION}", "python", "-m", "flamepy.runner.runpy"],
            installer="python",
            schema=types.ApplicationSchema(),
        ),
    }
    return {name: _with_defaults(spec) for name, spec in specs.items()}
