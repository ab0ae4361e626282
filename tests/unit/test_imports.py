"""What importing a part loads, which decides how long a command takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = {"agents", "openai", "mcp", "pydantic", "flamepy", "fastapi"}


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("flameagent.conversation", _HEAVY | {"pyarrow", "bson", "grpc", "typer", "rich"}),
        ("flameagent.model_choice", _HEAVY | {"httpx2", "pyarrow", "bson", "grpc"}),
        ("flameagent.cli.app", _HEAVY | {"pyarrow", "bson", "grpc", "jinja2", "markdown_it"}),
        ("flameagent.cli.commands.conversations", {"jinja2"}),
        (
            "flameagent.service.process.instance",
            _HEAVY | {"grpc", "google", "msgspec", "multiprocessing", "asyncio", "concurrent", "pickle", "urllib"},
        ),
        ("localflame", _HEAVY | {"pyarrow", "bson", "grpc", "sqlite3", "asyncio"}),
    ],
)
def test_a_part_loads_nothing_heavy(module: str, never: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({never!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
