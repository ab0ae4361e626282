"""An instance of flamepy's, for the tests: its input says what to do.

Input is JSON: `{"do": "echo", "text": …}` and so on. Output is JSON with what the instance knows of itself.
flamepy's packages are replaced by empty ones, so that it starts in 0.4 s and not in 2: the service's code and
its server are flamepy's own.
"""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

found = find_spec("flamepy")
assert found is not None
assert found.submodule_search_locations is not None
for name in ("flamepy", "flamepy.core"):
    package = ModuleType(name)
    package.__path__ = [f"{found.submodule_search_locations[0]}{name.removeprefix('flamepy').replace('.', '/')}"]
    sys.modules[name] = package

from flamepy.core import service  # noqa: E402
from flamepy.core.types import FlameError, FlameErrorCode  # noqa: E402


class Echo(service.FlameService):
    """Does what the input says."""

    def on_session_enter(self, context: Any) -> None:
        self.session = context.session_id
        self.common = context.common_data()
        self.application = context.application
        self.tasks = 0
        if os.environ.get("ECHO_ENTER") == "refuse":
            raise FlameError(FlameErrorCode.INTERNAL, "not this session")

    def on_task_invoke(self, context: Any) -> bytes | None:
        order = json.loads(context.input or b"{}")
        self.tasks += 1
        match order.get("do", "echo"):
            case "exit":
                print("the last words", file=sys.stderr, flush=True)
                os._exit(3)
            case "exit once":  # the marker is a file: the next instance sees it
                marker = Path(order["marker"])
                if not marker.exists():
                    marker.touch()
                    print(os.environ.get("TEST_API_KEY", ""), flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)
            case "sleep":
                Path(order["started"]).touch() if "started" in order else None
                until = time.monotonic() + order["seconds"]
                while time.monotonic() < until and not Path(order.get("until", "/nonexistent")).exists():
                    time.sleep(0.005)
            case "fail":
                raise FlameError(FlameErrorCode.INTERNAL, "this task fails")
            case "nothing":
                return None
            case "bytes":
                return b"x" * order["count"]
            case "child":
                child = subprocess.Popen(
                    ["/bin/sh", "-c", f"trap 'touch {order['marker']}; exit' TERM; while :; do sleep 0.05; done"]
                )
                return json.dumps({"pid": os.getpid(), "child": child.pid}).encode()
            case "application":
                return json.dumps(vars(self.application), default=str).encode()
        mask = os.umask(0o77)
        os.umask(mask)
        answer = {
            "text": order.get("text"),
            "pid": os.getpid(),
            "session": self.session,
            "common": self.common.decode() if self.common is not None else None,
            "tasks": self.tasks,
            "directory": str(Path.cwd()),
            "environment": {name: os.environ.get(name) for name in order.get("names", [])},
            "umask": mask,
            "group": os.getpgid(0) == os.getpid(),
            "arguments": sys.argv[1:],
        }
        return json.dumps(answer).encode()

    def on_session_leave(self) -> None:
        print(f"left {self.session}", flush=True)


if __name__ == "__main__":
    service.run(Echo())
