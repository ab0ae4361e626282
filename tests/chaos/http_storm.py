"""The storm over HTTP: everybody asks with the official client of OpenAI, which repeats what fails by itself.

The server is killed like everything else, and started again on its port. Each question has an idempotency key, so
that whoever was cut off asks again, and again, until somebody knows.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import openai

from tests.chaos.agents import answer_to
from tests.chaos.oracle import Asked
from tests.chaos.storm import PATIENCE, POINTS, Storm, _Done

_CLIENT_POINTS = [point for point in POINTS if point.startswith("client: ")]


class HttpStorm(Storm):
    """One run in which all ask over HTTP."""

    def __init__(self, folder: Path, agent: str, **options: Any) -> None:
        super().__init__(folder, agent, FLAME_AGENT_USER="owner", **options)
        self._commands = {**self._commands, "server": ("client.py", "serve")}
        del self._commands["client"]
        self._expected = _CLIENT_POINTS
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]

    def _blow(self, turns: int, kills: int) -> None:
        added = self._run("users", "add", "owner", "--json")
        self._openai = openai.OpenAI(
            base_url=f"http://127.0.0.1:{self._port}/v1",
            api_key=json.loads(added.out)["token"],
            max_retries=4,
            timeout=PATIENCE,
        )
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep_serving, args=(ended,))
        keeper.start()
        try:
            super()._blow(turns, kills)
        finally:
            ended.set()
            keeper.join()

    def _keep_serving(self, ended: threading.Event) -> None:
        """Start the server, and again whenever it was killed."""
        while not ended.is_set():
            server = self._client.start(
                "serve", "--port", str(self._port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            while server.poll() is None and not ended.is_set():
                time.sleep(0.05)
            if server.poll() is None:
                server.terminate()
            _, err = server.communicate(timeout=PATIENCE)
            if server.returncode not in (0, -signal.SIGKILL, -signal.SIGTERM, 5) or "Traceback" in err:
                self._report.stuck.append(f"the server ended with {server.returncode}: {err}")

    def _first(self, name: str, *more: str) -> str:
        key = uuid.uuid4().hex
        session = str(self._sent("/sessions", {}, key)["session_id"])
        asked = self._note(session, f"hello {name}", "unknown")
        self._ask(session, asked.question, asked)
        return session

    def _converse(self, number: int, session: str) -> None:
        for turn in range(1, 100_000):
            if self._enough.is_set():
                return
            self._ask(session, f"{('pay', 'say', 'refund', 'say')[turn % 4]} {number}.{turn}")

    def _ask(
        self, session: str, question: str, noted: Asked | None = None, *more: str, also: str | None = None
    ) -> Asked:
        asked, key = noted or self._note(session, question, "unknown"), uuid.uuid4().hex
        try:
            reply = self._sent(f"/sessions/{session}/turns", {"question": question}, key)
            while reply["status"] == "awaiting_approval":
                decided = self._approved(session)
                reply = decided or self._sent(f"/sessions/{session}/turns", {"question": question}, key)
        except openai.APIStatusError as refused:
            asked.outcome, asked.said = "refused", str(refused)
            return asked
        asked.outcome = "answered"
        if reply["answer"] != answer_to(question):
            self._report.stuck.append(f"{question} got the answer {reply['answer']!r}")
        return asked

    def _approved(self, session: str) -> dict[str, Any] | None:
        """The reply after an approval of all that waits; None where nothing does, or nobody knows."""
        waiting = self._openai.get(f"/sessions/{session}/history", cast_to=object)
        pending: dict[str, Any] | None = waiting["waiting"]  # type: ignore[index]
        if pending is None:
            return None
        calls = [call["id"] for call in pending["pending"]]
        try:
            return self._sent(f"/sessions/{session}/decisions", {"approve": calls}, "")
        except openai.APIStatusError:
            return None

    def _sent(self, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
        """What a request gives in the end: it is sent again under its key, until somebody knows. Raises refusals."""
        deadline = time.monotonic() + PATIENCE
        options: Any = {"headers": {"idempotency-key": key}} if key else {}
        while True:
            try:
                answer: Any = self._openai.post(path, cast_to=object, body=body, options=options)
                return dict(answer)
            except openai.APIStatusError as error:
                unclear = error.status_code >= 500 or "is being carried out" in str(error)
                if not unclear or time.monotonic() > deadline:
                    if isinstance(error.body, dict) and error.status_code == 409 and key:
                        waiting = self._openai.get(path.removesuffix("/turns") + "/history", cast_to=object)
                        if waiting["waiting"]:  # type: ignore[index]
                            return {"status": "awaiting_approval"}
                    raise
            except openai.APIConnectionError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def _run(self, *arguments: str) -> _Done:
        done = super()._run(*arguments)
        while done.code == -signal.SIGKILL:  # a point that was meant for the server
            done = super()._run(*arguments)
        return done
