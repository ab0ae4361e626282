"""`client.py` as a user runs it: a process of its own, with an environment of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 100.0
"""Seconds until a test gives up on something that it expects; nothing is measured by it."""


@dataclass(frozen=True)
class Result:
    """The outcome of a run."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error of a `--json` run."""
        error: dict[str, Any] = json.loads(self.err)["error"]
        return error


@dataclass(frozen=True)
class Program:
    """The client in `folder`, or another `command`, with the environment that a user would have."""

    environment: dict[str, str]
    folder: Path = ROOT
    name: str = "openai-agent"
    command: tuple[str, ...] = ()

    @property
    def settings(self) -> Path:
        """The user's settings file."""
        return Path(self("status", "--json").json["settings_file"])

    def having(self, **environment: str | None) -> Program:
        """The same, with variables set, or unset by None."""
        merged = {**self.environment, **environment}
        return replace(self, environment={name: value for name, value in merged.items() if value is not None})

    def start(self, *arguments: str | bytes, **options: Any) -> subprocess.Popen[str]:
        """Begin a run."""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [*(self.command or (sys.executable, str(self.folder / "client.py"))), *arguments],
            env=self.environment,
            encoding="utf-8",
            errors="surrogateescape",  # what is no text goes in and comes out as its bytes
            **{"cwd": self.environment.get("HOME"), **pipes, **options},
        )

    def __call__(self, *arguments: str | bytes, input: str = "", code: int = 0) -> Result:
        """A whole run, which is expected to leave with `code` and never with a traceback."""
        return ended(self.start(*arguments), input=input, code=code)


def together(program: Program, *runs: list[str], code: int) -> list[Result]:
    """Several runs at once, in their order."""
    return [ended(started, code=code) for started in [program.start(*arguments) for arguments in runs]]


def ended(process: subprocess.Popen[str], *, input: str = "", code: int | None = 0) -> Result:
    """Wait for the end of a run."""
    try:
        out, err = process.communicate(input, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"it did not end; it said: {out}{err}") from None
    assert "Traceback" not in err, err
    if code is not None:
        assert process.returncode == code, f"exit code {process.returncode}: {out}{err}"
    return Result(process.returncode, out, err)


def eventually(true: Callable[[], Any], *, seen: Callable[[], str] = str) -> Any:
    """Wait until it is true; what it was. What is seen when it never is, the failure tells."""
    deadline = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < deadline, f"it did not come true: {seen()}"
        time.sleep(0.05)
    return found


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C."""
    process.send_signal(signal.SIGINT)


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of a user who has configured little: a pager that does not wait for keys, a small engine."""
    home.mkdir(parents=True, exist_ok=True)
    user = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC", "PAGER": "cat"}
    return user | {"LOCALFLAME_EXECUTORS": "8"}  # several engines run at once here
