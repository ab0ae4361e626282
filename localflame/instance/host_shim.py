"""Flame's host shim: one instance of an application, and the calls that the engine makes to it.

As Flame's (executor_manager/src/shims/host_shim.rs and grpc_shim.rs), but it looks at the process: an
instance that dies, or does not come up in time, raises InstanceLost with the last lines of its log.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc

from flamewire.limits import LOCAL_OPTIONS, MESSAGE_LIMIT
from flamewire.signal_names import signal_name
from flamewire.stubs import shim_grpc, types
from localflame import peers
from localflame.errors import too_large
from localflame.instance.errors import CREATE_FAILED, ENTER_FAILED, InstanceLost
from localflame.instance.process import Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from localflame.home import Home
    from localflame.instance.plan import Plan

#: Seconds that an instance has to bind its socket, and to answer OnSessionEnter.
START_TIMEOUT = 60.0
#: Seconds between two looks for the socket of a starting instance.
POLL_INTERVAL = 0.004
#: Seconds that OnSessionLeave may take.
LEAVE_TIMEOUT = 5.0
#: Seconds within which an answer that was sent before the death arrives, and a death that broke a call is noticed.
ANSWER_AFTER_DEATH = 0.2


class Instance:
    """A running instance. Made by `launch`, of one session after `enter`; what needs it alive raises InstanceLost."""

    def __init__(self, process: Process) -> None:
        self._process = process
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
        patience: float = START_TIMEOUT,
    ) -> Instance:
        """Start the process and wait for its socket. Raises InstanceLost, after the process is gone."""
        instance = cls(Process(home, sockets, executor, plan))
        async with instance._end_unless_done(patience):
            await instance._process.start(endpoints, umask)
            await instance._connect()
        return instance

    async def enter(self, context: Any, patience: float = START_TIMEOUT) -> None:
        """Give it its session (a SessionContext): the only one. Raises InstanceLost, after the process is gone."""
        async with self._end_unless_done(patience):
            try:
                result = await self._call(self._stub.OnSessionEnter(context, wait_for_ready=True))
            except grpc.aio.AioRpcError as error:
                raise self._lost(f"on_session_enter failed: {error.details()}", ENTER_FAILED) from None
            if result.return_code != 0:
                raise self._lost(f"on_session_enter failed: {result.message}", ENTER_FAILED)

    @contextlib.asynccontextmanager
    async def _end_unless_done(self, patience: float) -> AsyncIterator[None]:
        """End the process where the block fails or takes more than so many seconds. Raises InstanceLost then."""
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

    def has_directory(self) -> bool:
        """True if the folder that it runs in is still there."""
        return self._process.has_directory()

    def on_death(self, call: Callable[[], None]) -> None:
        """Call it when the process is dead."""
        self._process.died.add_done_callback(lambda _: call())

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
        """Leave the session where `leave`, and end the process with its group. Does not raise."""
        if leave and not self._process.died.done():
            with contextlib.suppress(InstanceLost, TimeoutError, grpc.aio.AioRpcError):
                async with asyncio.timeout(LEAVE_TIMEOUT):
                    await self._call(self._stub.OnSessionLeave(types.EmptyRequest()))
        await self._process.end()
        if self._channel is not None:
            await self._channel.close(None)

    async def _connect(self) -> None:
        """Wait until the instance listens. Its socket file is there a moment before it does (bind, then listen)."""
        while not peers.listens(self._process.socket):
            if self._process.died.done():
                raise self._lost(None)
            await asyncio.sleep(POLL_INTERVAL)
        self._channel = grpc.aio.insecure_channel(
            f"unix:{self._process.socket}",
            options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.default_authority", "localhost"),  # services in Rust refuse gRPC's own: the socket's path
                ("grpc.max_receive_message_length", -1),  # what is too large is refused in Flame's words
                *LOCAL_OPTIONS,
            ],
        )
        self._stub = shim_grpc.InstanceStub(self._channel)

    async def _call(self, call: Any) -> Any:
        """The answer, or InstanceLost as soon as the process is dead."""
        loop, died = asyncio.get_running_loop(), self._process.died

        def give_up(_: object) -> None:
            loop.call_later(ANSWER_AFTER_DEATH, call.cancel)

        died.add_done_callback(give_up)
        try:
            return await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if died.done() and task is not None and not task.cancelling():
                raise self._lost(None) from None
            raise
        except grpc.aio.AioRpcError:
            await asyncio.wait((died,), timeout=ANSWER_AFTER_DEATH)  # its connection breaks before it is reaped
            if died.done():
                raise self._lost(None) from None
            raise
        finally:
            died.remove_done_callback(give_up)

    def _lost(self, how: str | None, code: int = CREATE_FAILED) -> InstanceLost:
        """The error: `how` it was lost, or else how the process ended, with the end of its log."""
        if how is None:
            code = self._process.died.result()
            how = f"was ended by {signal_name(-code)}" if code < 0 else f"exited with code {code}"
            how = f"the instance {how}"
        tail = self._process.logs.tail(self._process.plan.secrets)
        return InstanceLost(how + (f"; the end of its log:\n{tail}" if tail else "; its log is empty"), code)
