"""The host shim: one instance of an application, from its process's start to the end of its group.

As Flame's (executor_manager/src/shims/host_shim.rs and grpc_shim.rs), but it looks at the process: an
instance that dies, or does not come up in time, raises InstanceLost with the last lines of its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from flamewire.failpoints import failpoint
from flamewire.limits import MESSAGE_LIMIT
from flamewire.stubs import shim_grpc, types
from localflame import peers
from localflame.errors import os_error, too_large
from localflame.instance.errors import CREATE_FAILED, ENTER_FAILED, InstanceLost
from localflame.instance.logs import drop_old_logs, log_files
from localflame.instance.plan import TEMPORARIES, Plan, expand
from localflame.instance.process import INSTANCE_ENDPOINT, signal_group, started

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


class Instance:
    """A running instance. Made by `launch`, of one session after `enter`; what needs it alive raises InstanceLost."""

    def __init__(self, home: Home, sockets: Path, executor: str, plan: Plan) -> None:
        self.plan = plan
        self._home = home
        self._logs = log_files(home, executor)
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
        named = log_files(self._home, executor)
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
            if signal_group(group, signal.SIGTERM):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GRACE):
                        await asyncio.shield(self._died)
                        while signal_group(group, 0):  # noqa: ASYNC110 - what it started may still be finishing
                            await asyncio.sleep(0.02)
                signal_group(group, signal.SIGKILL)
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
        temporaries = dict.fromkeys(TEMPORARIES, str(temporary))
        environment = {**temporaries, **plan.environment, **endpoints, INSTANCE_ENDPOINT: str(self._socket)}
        command, *arguments = (expand(word, environment) for word in (plan.command, *plan.arguments))
        try:
            temporary.mkdir(parents=True)
            self._directory.mkdir(parents=True, exist_ok=True)
            # For the engine after this one, which ends what this one leaves behind: how to know its members.
            self._note = self._home.instances / f"0-{self._socket.name}"
            self._note.write_text(f"{self._socket}\n{self._home.identity()}")
            drop_old_logs(self._logs[0].parent)
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
        while not peers.listens(self._socket):
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
