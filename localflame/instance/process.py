"""The process of an instance: its start, its group, and its end.

It leads a process group of its own, which ends with it. While it runs, a note in the home's `instances` tells the
engine after this one about it (`leftovers.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from flamewire.failpoints import failpoint
from localflame.errors import os_error
from localflame.instance.errors import InstanceLost
from localflame.instance.logs import Logs, drop_old_logs
from localflame.instance.plan import TEMPORARIES, expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localflame.home import Home
    from localflame.instance.plan import Plan

#: Seconds that a group has between SIGTERM and SIGKILL.
TERMINATION_GRACE = 6.0
#: The variable of Flame that says to an instance where its socket is to be.
INSTANCE_ENDPOINT = "FLAME_INSTANCE_ENDPOINT"


class Process:
    """One process and its group: started once by `start`, ended by `end`, whatever became of the start."""

    def __init__(self, home: Home, sockets: Path, executor: str, plan: Plan) -> None:
        self.plan = plan
        self.logs = Logs(home.logs, executor)
        self.socket = sockets / executor[:13]
        #: Its exit code, negative for the signal that ended it, once it is dead.
        self.died: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._home = home
        self._temporary = home.temporary / executor[:13]
        # Not below the home: that may be in a checkout, whose project uv and others would take the instance to be of.
        self._own_directory = sockets / f"{executor[:13]}.work"
        self._directory = Path(plan.directory) if plan.directory else self._own_directory
        self._note: Path | None = None
        self._starting: asyncio.Future[None] | None = None
        self._popen: subprocess.Popen[bytes] | None = None

    async def start(self, endpoints: Mapping[str, str], umask: int) -> None:
        """Start it, with `endpoints` in its environment over those of its plan. Raises InstanceLost.

        Who is cancelled here leaves a start that goes on; `end` waits for it.
        """
        loop = asyncio.get_running_loop()
        self._starting = asyncio.ensure_future(asyncio.to_thread(self._start, endpoints, umask, loop))
        await asyncio.shield(self._starting)

    def has_directory(self) -> bool:
        """True if the folder that it runs in is still there."""
        return self._directory.is_dir()

    async def end(self) -> None:
        """End the whole group and remove its files. Does not raise."""
        if self._starting is not None:
            await asyncio.wait({self._starting})
            self._starting.exception()
        if self._popen is not None:
            await self._end_group(self._popen.pid)
        if self._note is not None:
            self._note.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)
        for folder in (self._temporary, self._own_directory):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _end_group(self, group: int) -> None:
        if signal_group(group, signal.SIGTERM):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TERMINATION_GRACE):
                    await asyncio.shield(self.died)
                    while signal_group(group, 0):  # noqa: ASYNC110 - what it started may still be finishing
                        await asyncio.sleep(0.02)
            signal_group(group, signal.SIGKILL)
        await asyncio.shield(self.died)

    def _start(self, endpoints: Mapping[str, str], umask: int, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: starting a process takes milliseconds, in which the loop would serve nobody."""
        plan = self.plan
        temporary = self._temporary / "tmp"
        temporaries = dict.fromkeys(TEMPORARIES, str(temporary))
        environment = {**temporaries, **plan.environment, **endpoints, INSTANCE_ENDPOINT: str(self.socket)}
        command, *arguments = (expand(word, environment) for word in (plan.command, *plan.arguments))
        try:
            temporary.mkdir(parents=True)
            self._directory.mkdir(parents=True, exist_ok=True)
            # For the engine after this one, which ends what this one leaves behind: how to know its members.
            self._note = self._home.instances / f"0-{self.socket.name}"
            self._note.write_text(f"{self.socket}\n{self._home.identity()}")
            drop_old_logs(self._home.logs)
            with self.logs.out.open("wb") as out, self.logs.err.open("wb") as err:
                self._popen = subprocess.Popen(
                    [command, *arguments],
                    cwd=self._directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    umask=umask,
                )
        except (OSError, ValueError) as error:
            reason = os_error(error, command) if isinstance(error, OSError) else str(error)
            raise InstanceLost(
                f"shim creation failed: failed to start service by command <{command}>: {reason}"
            ) from None
        failpoint("engine: instance started")
        # Now the group and when its leader started are known, too.
        pid = self._popen.pid
        with contextlib.suppress(OSError):  # a full disk: the next engine has to search
            self._note = self._note.rename(self._home.instances / f"{pid}-{start_time(pid)}")
        threading.Thread(target=self._wait, args=(self._popen, loop), name=f"wait-{pid}", daemon=True).start()

    def _wait(self, popen: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        code = popen.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the engine has left
            loop.call_soon_threadsafe(self._note_death, code)

    def _note_death(self, code: int) -> None:
        if not self.died.done():
            self.died.set_result(code)


def start_time(pid: int) -> str:
    """The start time of a process, in the system's own words; empty where there is no such process.

    On Linux in clock ticks since boot: a time of day changes when somebody sets the clock.
    """
    if sys.platform.startswith("linux"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[19]
    found = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip().replace(" ", "_").replace(":", "_")


def signal_group(group: int, number: int) -> bool:
    """Send a signal (0: none) to a process group: whether there was anybody in it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS: only zombies are left
        return False
    return True
