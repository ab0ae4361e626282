"""Turns through an engine: the embedded one in a home of its own, or the cluster that FLAME_ENDPOINT names."""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import grpc

from benchmarks.conversation import QUESTION, items
from flameagent.apis import MyContext, Question
from flameagent.client import payloads
from flameagent.client.engine import Embedded
from flameagent.conversation import context
from flameagent.flame import resolve
from flameagent.flame.cache import ObjectCache
from flameagent.flame.frontend import Frontend, TaskState
from flamewire.object_ref import ObjectRef
from flamewire.stubs import frontend, frontend_grpc, types
from localflame import start, stop

ROOT = Path(__file__).resolve().parents[1]


class Engine:
    """An engine with the applications that the benchmark needs; a context manager that leaves it as it was."""

    def __init__(self, folder: Path) -> None:
        self.home: Path | None = None
        endpoints = resolve(os.environ) if os.environ.get("FLAME_ENDPOINT") else None
        if endpoints is None:
            self.home = folder / "engine"
            self.pid = start(self.home).pid
            endpoints = Embedded(self.home).reach()
        self.endpoints = endpoints
        self.frontend = Frontend(endpoints)
        self.cache = ObjectCache(endpoints)
        channel = grpc.insecure_channel(endpoints.frontend.removeprefix("http://"))
        self._stub: Any = frontend_grpc.FrontendStub(channel)
        self._applications: list[str] = []
        self._sessions: list[str] = []

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            self.frontend.close_session(session)
            self._stub.DeleteSession(frontend.DeleteSessionRequest(session_id=session))
        for name in self._applications:
            self._stub.UnregisterApplication(frontend.UnregisterApplicationRequest(name=name))
            self.cache.delete(f"{name}/*")
        if self.home is not None:
            stop(self.home)

    def register(self, module: str, *arguments: str, **environment: str) -> str:
        """An application that runs a module of this checkout; its name."""
        name = f"benchmark-{uuid.uuid4().hex[:8]}"
        variables = {**environment, "PYTHONPATH": str(ROOT)}
        spec = types.ApplicationSpec(
            shim=types.Host,
            command=sys.executable,
            arguments=["-m", module, *arguments],
            working_directory=str(ROOT),
            environments=[types.Environment(name=key, value=value) for key, value in variables.items()],
            delay_release=600,
        )
        result = self._stub.RegisterApplication(
            frontend.RegisterApplicationRequest(name=name, application=spec), timeout=15
        )
        if result.return_code != 0:
            raise SystemExit(f"The engine does not register the benchmark's application: {result.message}")
        self._applications.append(name)
        return name

    def session(self, application: str, count: int) -> str:
        """A new session whose context has so many items."""
        base = context.write(MyContext("You are a weather forecaster.", [json.dumps(item) for item in items(count)]))
        session = f"{application}-{uuid.uuid4().hex[:8]}"
        reference = self.cache.put(f"{application}/{session}", base)
        self.frontend.create_session(session, application, reference.encode())
        self._sessions.append(session)
        return session

    def close_sessions(self) -> None:
        """Close all sessions, and wait until their instances are gone."""
        for session in self._sessions:
            self.frontend.close_session(session)
        while self._stub.ListExecutor(frontend.ListExecutorRequest()).executors and self.home is not None:
            time.sleep(0.1)

    def key(self, session: str) -> str:
        """The first object of a session."""
        data = self.frontend.session(session).common_data
        assert data is not None
        return ObjectRef.decode(data).key

    def turn(self, session: str) -> float:
        """Ask and wait for the answer, as a client does: milliseconds."""
        question = payloads.write(Question(QUESTION, str(uuid.uuid4())))
        start_ = time.perf_counter()
        task = self.frontend.create_task(session, question)
        *_, done = self.frontend.watch(session, task, 300)
        took = time.perf_counter() - start_
        answer = pickle.loads(done.output) if done.output else None
        if done.state != TaskState.SUCCEED or not getattr(answer, "answer", ""):
            raise SystemExit(f"A turn failed: {done.message or getattr(answer, 'error', answer)}")
        return took * 1000
