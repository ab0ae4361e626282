"""The control socket's client: what can be asked of an engine that is not part of Flame's API.

One JSON object a line each way. Only the standard library is imported, because every command of the
client passes here.
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

from localflame.home import EngineError, Home, default_home

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Seconds until an engine that does not answer is given up.
TIMEOUT = 10.0


def ask(home: Home, request: Mapping[str, Any], timeout: float = TIMEOUT) -> dict[str, Any] | None:
    """One request to the engine of `home`: its answer, or None where no engine of this home listens.

    Raises EngineError with the engine's own sentence where it refuses.
    """
    path = home.control_socket()
    if path is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(os.fspath(path))
        except OSError:
            return None
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            received = bytearray()
            while not received.endswith(b"\n"):
                part = connection.recv(65536)
                if not part:
                    return None  # it is leaving
                received += part
        except TimeoutError:
            raise EngineError(
                f"The engine of {home.path} does not answer; stop it with `python -m localflame stop`."
            ) from None
        except OSError:
            return None
    answer: dict[str, Any] = json.loads(received)
    if "error" in answer:
        raise EngineError(answer["error"])
    return answer


class Control:
    """Talks to the engine of one home. Every method raises EngineError where none runs."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = Home(home or default_home())

    def status(self) -> dict[str, Any]:
        """`pid`, `endpoint`, `cache_endpoint`, `home`, `uptime` (seconds), `sessions` (`open`, `closed`),
        `tasks` (by state), `instances`, `executors` (the limit)."""
        return self._ask({"do": "status"})

    def metrics(self) -> list[dict[str, Any]]:
        """What it has counted since it started: each a metric with `name`, `type`, `help` and `samples`.

        `localflame.metrics.text` makes of them what Prometheus reads.
        """
        found: list[dict[str, Any]] = self._ask({"do": "metrics"})["metrics"]
        return found

    def application(
        self,
        name: str,
        *,
        folder: str | os.PathLike[str],
        command: str,
        arguments: Sequence[str] = (),
        environments: Mapping[str, str] | None = None,
        description: str | None = None,
        labels: Sequence[str] = (),
        delay_release: int | None = None,
        max_instances: int | None = None,
    ) -> None:
        """Have the application `name` run `command arguments…` in `folder`, from its next task on.

        Registered where it is absent; updated in place, also with open sessions, where it runs in the
        same folder or in one that is gone. Raises EngineError, naming both folders, where it runs in
        another folder that exists.
        """
        self._ask(
            {
                "do": "application",
                "name": name,
                "folder": os.path.realpath(folder),
                "command": command,
                "arguments": list(arguments),
                "environments": dict(environments or {}),
                "description": description,
                "labels": list(labels),
                "delay_release": delay_release,
                "max_instances": max_instances,
                "spare": False,  # for an engine of an earlier version that still runs
            }
        )

    def settings(self, session_id: str, environment: Mapping[str, str], clear: Sequence[str] = ()) -> None:
        """Set what the session's instances find in their environment, from its next task on.

        `environment` comes over the application's own; variables of the engine's environment that match
        a glob in `clear` are left out. Kept in memory only, and also for a session that is made later.
        """
        self._ask(
            {"do": "settings", "session_id": session_id, "environment": dict(environment), "clear": list(clear)}
        )

    def default_settings(self, application: str, environment: Mapping[str, str], clear: Sequence[str] = ()) -> None:
        """Set, as `settings` does, what those sessions of an application find that `settings` names none for."""
        self._ask(
            {
                "do": "default settings",
                "application": application,
                "environment": dict(environment),
                "clear": list(clear),
            }
        )

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        answer = ask(self._home, request)
        if answer is None:
            raise EngineError(f"No engine runs in {self._home.path}; start it with `python -m localflame start`.")
        return answer
