"""The warm pool: instances that run before a session needs them.

An agent's imports take seconds. For an application that asks for it, one instance more than its sessions need
is started, which has bound its socket and loads what it loads, but has no session. It is given to a session
only if it is exactly what would be started for it now. Users meet it as a *spare*: in the control protocol, in the
status and in the environment of such an instance.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from typing import TYPE_CHECKING

from localflame.instance.errors import InstanceLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localflame.instance.host_shim import Instance
    from localflame.instance.plan import Plan

log = logging.getLogger("localflame.warm_pool")


class WarmPool:
    """At most one instance for each application that wants one; `launch` starts it and waits for its socket."""

    def __init__(self, launch: Callable[[str, Plan], Awaitable[Instance]]) -> None:
        self._launch = launch
        self._applications: set[str] = set()
        self._instances: dict[str, _WarmInstance] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._instances)

    def want(self, application: str, wanted: bool) -> None:
        """Say whether an application is to have one."""
        if wanted:
            self._applications.add(application)
        else:
            self._applications.discard(application)
            self._drop(self._instances.get(application))

    async def take(self, plan: Plan) -> Instance | None:
        """The instance of this plan, or None. Its process may end at any time, as any instance's."""
        warm = self._instances.get(plan.application)
        if warm is None or warm.plan != plan:
            return None
        del self._instances[plan.application]
        return await warm.take()

    def prepare(self, plan: Plan, lifetime: float) -> None:
        """Have one for this plan, for `lifetime` seconds, in place of one for another plan."""
        if plan.application not in self._applications:
            return
        warm = self._instances.get(plan.application)
        if warm is not None and warm.plan == plan:
            return
        self._drop(warm)
        warm = self._instances[plan.application] = _WarmInstance(plan)
        warm.start(self._launch, lifetime, lambda: self._drop(warm))

    async def stop(self) -> None:
        """The engine leaves: end them all."""
        self._applications.clear()
        for warm in list(self._instances.values()):
            self._drop(warm)
        await asyncio.gather(*self._leaving)

    def _drop(self, warm: _WarmInstance | None) -> None:
        if warm is not None and self._instances.get(warm.plan.application) is warm:
            del self._instances[warm.plan.application]
            leaving = asyncio.create_task(warm.end())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)


class _WarmInstance:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._launching: asyncio.Future[Instance]
        self._timer: asyncio.TimerHandle

    def start(
        self, launch: Callable[[str, Plan], Awaitable[Instance]], lifetime: float, over: Callable[[], None]
    ) -> None:
        self._launching = asyncio.ensure_future(launch(str(uuid.uuid4()), self.plan))
        self._timer = asyncio.get_running_loop().call_later(lifetime, over)
        self._launching.add_done_callback(lambda launching: self._launched(launching, over))

    def _launched(self, launching: asyncio.Future[Instance], over: Callable[[], None]) -> None:
        if launching.cancelled() or isinstance(launching.exception(), InstanceLost):
            over()
        else:
            launching.result().on_death(over)

    async def take(self) -> Instance | None:
        self._timer.cancel()
        try:
            return await self._launching
        except InstanceLost as lost:
            log.warning("a spare: %s", lost)
            return None

    async def end(self) -> None:
        self._timer.cancel()
        self._launching.cancel()
        with contextlib.suppress(asyncio.CancelledError, InstanceLost):
            await (await self._launching).end(leave=False)
