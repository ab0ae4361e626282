"""The host shim: one instance of an application, from its process's start to the end of its group.

As Flame's (executor_manager/src/shims/host_shim.rs and grpc_shim.rs), but it looks at the process: an
instance that dies, or does not come up in time, raises InstanceLost with the last lines of its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from flamewire.failpoints import failpoint
from flamewire.limits import MESSAGE_LIMIT
from flamewire.stubs import shim_grpc, types
from localflame.errors import os_error, too_large

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from localflame.home import Home

#: Seconds that an instance has to bind its socket and to answer OnSessionEnter.
START_PATIENCE = 60.0
#: Seconds between two looks for the socket of a starting instance.
LOOK = 0.004
#: Seconds that OnSessionLeave may take, and that a group has between SIGTERM and SIGKILL.
LEAVE_PATIENCE = 5.0
GRACE = 6.0
#: Seconds within which an answer that was sent before the death arrives, and a death that broke a call is noticed.
ANSWER_AFTER_DEATH = 0.2
#: Executors whose logs are kept.
KEPT_LOGS = 20

_TEMPORARIES = ("TMPDIR", "TEMP", "TMP")
_PATHS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
_INSTANCE_ENDPOINT = "FLAME_INSTANCE_ENDPOINT"
_SECRET = re.compile(r"key|token|secret|password", re.IGNORECASE)


#: Why an executor could not bind (common/src/apis/types.rs).
INSTALL_FAILED, CREATE_FAILED, ENTER_FAILED = 10, 11, 12


class InstanceLost(Exception):
    """The instance died, or never came up; the message says how, with the end of its log."""

    def __init__(self, message: str, code: int = CREATE_FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Plan:
    """All that decides what process an instance is: two equal plans need no restart between them.

    Variables in the command and its arguments are expanded at the launch, over the instance's whole environment.
    """

    application: str
    command: str
    arguments: tuple[str, ...]
    directory: str | None
    environment: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def make(
        cls,
        application: str,
        spec: Any,
        base: Mapping[str, str],
        settings: Mapping[str, str],
        installed: Mapping[str, str] | None = None,
    ) -> Plan:
        """What `spec` (an ApplicationSpec) means over the environments `base`, `settings` and that of its package."""
        known = {**base, **settings}
        own = {variable.name: expand(variable.value, known, strict=True) for variable in spec.environments}
        for name, text in (installed or {}).items():
            if name in _PATHS and name in own:
                own[name] = f"{text}:{own[name]}"
            else:
                own.setdefault(name, text)
        level = known.get("RUST_LOG", "info")
        inherited = {name: text for name, text in base.items() if name not in _TEMPORARIES}
        environment = {**inherited, **own, **settings, "RUST_LOG": level, "FLAME_LOG": level}
        return cls(
            application=application,
            command=spec.command,
            arguments=tuple(spec.arguments),
            directory=spec.working_directory or None,
            environment=environment,
            secrets=tuple(value for name, value in settings.items() if _SECRET.search(name) and len(value) > 5),
        )


def expand(text: str, variables: Mapping[str, str], strict: bool = False) -> str:
    """`$NAME`, `${NAME}`, `${NAME:-default}`, as the shellexpand crate; unknown ones stay, with `strict` all do."""
    unknown = False

    def value(match: re.Match[str]) -> str:
        nonlocal unknown
        inner = match["braced"] or match["bare"]
        if inner is None:
            return "$"
        name, default = inner, None
        if match["braced"] is not None and inner.find(":-") > 0:
            name, _, default = inner.partition(":-")
        if name in variables and (variables[name] or default is None):
            return variables[name]
        if default is not None:
            return default
        unknown = True
        return match[0]

    expanded = re.sub(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<bare>\w+)|\$)?", value, text)
    return text if strict and unknown else expanded


class Instance:
    """A running instance. Made by `launch`, of one session after `enter`; what needs it alive raises InstanceLost."""

    def __init__(self, home: Home, sockets: Path, executor: str, plan: Plan) -> None:
        self.plan = plan
        self._home = home
        self._logs = _logs(home, executor)
        self._socket = sockets / executor[:13]
        self._temporary = home.temporary / executor[:13]
        # Not below the home: that may be in a checkout, whose project uv and others would take the instance to be of.
        self._own_directory = sockets / f"{executor[:13]}.work"
        self._directory = Path(plan.directory) if plan.directory else self._own_directory
        self._note: Path | None = None
        self._spawning: asyncio.Future[None] | None = None
        self._died: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None

    @classmethod
    async def launch(
        cls,
        home: Home,
        sockets: Path,
        executor: str,
        plan: Plan,
        endpoints: Mapping[str, str],
        umask: int,
        patience: float = START_PATIENCE,
    ) -> Instance:
        """Start the process and wait for its socket. Raises InstanceLost, after the process is gone."""
        instance = cls(home, sockets, executor, plan)
        instance._spawning = asyncio.ensure_future(
            asyncio.to_thread(instance._spawn, endpoints, umask, asyncio.get_running_loop())
        )
        async with instance._or_gone(patience):
            await asyncio.shield(instance._spawning)
            await instance._connect()
        return instance

    async def enter(self, executor: str, context: Any, patience: float = START_PATIENCE) -> None:
        """Give it its session (a SessionContext): the only one. Raises InstanceLost, after the process is gone."""
        self._name_logs(executor)
        async with self._or_gone(patience):
            try:
                result = await self._call(self._stub.OnSessionEnter(context, wait_for_ready=True))
            except grpc.aio.AioRpcError as error:
                raise self._lost(f"on_session_enter failed: {error.details()}", ENTER_FAILED) from None
            if result.return_code != 0:
                raise self._lost(f"on_session_enter failed: {result.message}", ENTER_FAILED)

    @contextlib.asynccontextmanager
    async def _or_gone(self, patience: float) -> AsyncIterator[None]:
        """What is done here works out within so many seconds, or the process is ended."""
        try:
            async with asyncio.timeout(patience):
                yield
        except TimeoutError:
            lost = self._lost(f"shim creation failed: the instance did not come up in {patience:.0f} seconds")
        except InstanceLost as error:
            lost = error
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.ensure_future(self.end(leave=False)))
            raise
        else:
            return
        await self.end(leave=False)
        raise lost

    def _name_logs(self, executor: str) -> None:
        """Have them under the name of the executor that the instance turns out to be for."""
        named = _logs(self._home, executor)
        for old, new in zip(self._logs, named, strict=True):
            with contextlib.suppress(OSError):  # they are for people to read
                old.replace(new)
        self._logs = named

    def has_its_folder(self) -> bool:
        """Whether the folder that it runs in is still there."""
        return self._directory.is_dir()

    def on_death(self, call: Callable[[], None]) -> None:
        """Call it when the process is dead."""
        self._died.add_done_callback(lambda _: call())

    async def invoke(self, context: Any) -> Any:
        """Run one task (a TaskContext): its TaskResult. Raises InstanceLost."""
        try:
            result = await self._call(self._stub.OnTaskInvoke(context))
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise self._lost("the instance closed its connection") from None
            return types.TaskResult(return_code=-1, message=error.details() or "")
        size = result.ByteSize()
        if size > MESSAGE_LIMIT:
            return types.TaskResult(return_code=-1, message=too_large(size))
        return result

    async def end(self, leave: bool) -> None:
        """Leave the session where `leave`, end the whole process group, and clean up. Does not raise."""
        if leave and not self._died.done():
            with contextlib.suppress(InstanceLost, TimeoutError, grpc.aio.AioRpcError):
                async with asyncio.timeout(LEAVE_PATIENCE):
                    await self._call(self._stub.OnSessionLeave(types.EmptyRequest()))
        if self._spawning is not None:
            await asyncio.wait({self._spawning})
            self._spawning.exception()
        if self._process is not None:
            group = self._process.pid
            if _signal_group(group, signal.SIGTERM):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GRACE):
                        await asyncio.shield(self._died)
                        while _signal_group(group, 0):  # noqa: ASYNC110 - what it started may still be finishing
                            await asyncio.sleep(0.02)
                _signal_group(group, signal.SIGKILL)
            await asyncio.shield(self._died)
        if self._note is not None:
            self._note.unlink(missing_ok=True)
        if self._channel is not None:
            await self._channel.close(None)
        self._socket.unlink(missing_ok=True)
        for folder in (self._temporary, self._own_directory):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _spawn(self, endpoints: Mapping[str, str], umask: int, loop: asyncio.AbstractEventLoop) -> None:
        plan = self.plan
        temporary = self._temporary / "tmp"
        temporaries = dict.fromkeys(_TEMPORARIES, str(temporary))
        environment = {**temporaries, **plan.environment, **endpoints, _INSTANCE_ENDPOINT: str(self._socket)}
        command, *arguments = (expand(word, environment) for word in (plan.command, *plan.arguments))
        try:
            temporary.mkdir(parents=True)
            self._directory.mkdir(parents=True, exist_ok=True)
            # For the engine after this one, which ends what this one leaves behind: how to know its members.
            self._note = self._home.instances / f"0-{self._socket.name}"
            self._note.write_text(f"{self._socket}\n{self._home.identity()}")
            _drop_old_logs(self._logs[0].parent)
            with self._logs[0].open("wb") as out, self._logs[1].open("wb") as err:
                self._process = subprocess.Popen(
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
        with contextlib.suppress(OSError):  # a full disk: the next engine has to search
            self._note = self._note.rename(self._home.instances / f"{self._process.pid}-{started(self._process.pid)}")
        threading.Thread(
            target=self._watch, args=(self._process, loop), name=f"wait-{self._process.pid}", daemon=True
        ).start()

    def _watch(self, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        code = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the engine has left
            loop.call_soon_threadsafe(self._note_death, code)

    def _note_death(self, code: int) -> None:
        if not self._died.done():
            self._died.set_result(code)

    async def _connect(self) -> None:
        """Until the instance listens. Its socket file is there a moment before it does (bind, then listen)."""
        while not listens(self._socket):
            if self._died.done():
                raise self._lost(None)
            await asyncio.sleep(LOOK)
        self._channel = grpc.aio.insecure_channel(
            f"unix:{self._socket}",
            options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.default_authority", "localhost"),  # services in Rust refuse gRPC's own: the socket's path
                ("grpc.max_receive_message_length", -1),  # what is too large is refused in Flame's words
            ],
        )
        self._stub = shim_grpc.InstanceStub(self._channel)

    async def _call(self, call: Any) -> Any:
        """The answer, or InstanceLost as soon as the process is dead."""
        loop = asyncio.get_running_loop()

        def give_up(_: object) -> None:
            loop.call_later(ANSWER_AFTER_DEATH, call.cancel)

        self._died.add_done_callback(give_up)
        try:
            return await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._died.done() and task is not None and not task.cancelling():
                raise self._lost(None) from None
            raise
        except grpc.aio.AioRpcError:
            await asyncio.wait((self._died,), timeout=ANSWER_AFTER_DEATH)  # its connection breaks before it is reaped
            if self._died.done():
                raise self._lost(None) from None
            raise
        finally:
            self._died.remove_done_callback(give_up)

    def _lost(self, how: str | None, code: int = CREATE_FAILED) -> InstanceLost:
        if how is None:
            code = self._died.result()
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
            how = f"the instance {how}"
        tail = self._tail()
        return InstanceLost(how + (f"; the end of its log:\n{tail}" if tail else "; its log is empty"), code)

    def _tail(self) -> str:
        """The last lines of what it wrote, without the keys that it was given."""
        for path in reversed(self._logs):
            try:
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - 4096))
                    lines = file.read().decode(errors="replace").strip().splitlines()[-12:]
            except OSError:
                continue
            if lines:
                tail = "\n".join(lines)
                for secret in self.plan.secrets:
                    tail = tail.replace(secret, "***")
                return tail
        return ""


def _logs(home: Home, executor: str) -> tuple[Path, Path]:
    return home.logs / f"{executor}.out", home.logs / f"{executor}.err"


def end_leftovers(home: Home) -> int:
    """Kill the instances that an engine of this home left behind when it was killed; how many there were.

    A group is ours if its leader is the process that was noted, or, where that is dead, by the socket in
    the environment of its members: process IDs are used again, these are not. Where no group was noted, because the
    engine was killed just then, by that alone.
    """
    count, ours = 0, str(home.identity())
    for note in home.instances.iterdir():
        number, _, start = note.name.partition("-")
        endpoint, _, whose = note.read_text().partition("\n")
        if whose not in ("", ours):  # of the home that this one was copied from; older engines did not note it
            note.unlink(missing_ok=True)
            continue
        group, marker = int(number), f"{_INSTANCE_ENDPOINT}={endpoint}".encode()
        leader = started(group)
        if leader == start != "":
            _signal_group(group, signal.SIGKILL)
            count += 1
        elif leader == "" or group == 0:
            for member in _members(group, marker):
                with contextlib.suppress(OSError):
                    os.kill(member, signal.SIGKILL)
                count += 1
        note.unlink(missing_ok=True)
    shutil.rmtree(home.temporary, ignore_errors=True)
    home.temporary.mkdir(mode=0o700, exist_ok=True)
    return count


def started(pid: int) -> str:
    """When the process started, in the system's own words; empty where there is no such process."""
    if sys.platform.startswith("linux"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[19]
    found = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip().replace(" ", "_").replace(":", "_")


def _members(group: int, marker: bytes) -> list[int]:
    """Processes of the group (0: of any) whose environment has the marker; none where there is no /proc."""
    members = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if group in (0, os.getpgid(int(entry.name))) and marker in (entry / "environ").read_bytes().split(b"\0"):
                members.append(int(entry.name))
    return members


def _signal_group(group: int, number: int) -> bool:
    """Whether there was anybody in the group to send it to."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS: only zombies are left
        return False
    return True


def listens(path: Path) -> bool:
    """Whether somebody does on this Unix socket."""
    if not path.exists():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:  # its queue is full: it listens
            return True
        except OSError:
            return False
    return True


def _drop_old_logs(folder: Path) -> None:
    """Keep the logs of the newest executors, this engine's log aside. Others may be at it at the same time."""
    written: list[tuple[float, Path]] = []
    for path in folder.glob("*.out"):
        with contextlib.suppress(FileNotFoundError):
            written.append((path.stat().st_mtime, path))
    for _, path in sorted(written, reverse=True)[KEPT_LOGS - 1 :]:
        path.unlink(missing_ok=True)
        path.with_suffix(".err").unlink(missing_ok=True)
