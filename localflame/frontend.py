"""Flame's frontend service (rpc/protos/frontend.proto) over the controller.

Turns messages into calls of the controller and back, and errors into Flame's
statuses. A change that has begun is carried to its end also if its caller hangs up.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any

import grpc

from flamewire.limits import MESSAGE_LIMIT
from flamewire.stubs import frontend as messages
from flamewire.stubs import types
from localflame.controller import Controller
from localflame.errors import FlameError, Refused, invalid, not_found, too_large
from localflame.executor import State
from localflame.node import node
from localflame.store import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable

    from localflame.activity import Activity
    from localflame.domain import Application, Event, Session, TaskRecord
    from localflame.executor import Executor
    from localflame.scheduler import Scheduler

log = logging.getLogger("localflame.frontend")

#: Bytes of a message that the server takes off the wire, so that one above Flame's limit is refused in Flame's words.
WIRE_LIMIT = 64 * 1024**2

_EXECUTOR_STATES = {
    State.BINDING: types.ExecutorBinding,
    State.RUNNING: types.ExecutorBound,
    State.IDLE: types.ExecutorBound,
    State.LEAVING: types.ExecutorUnbinding,
}


class Frontend(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """The service."""

    def __init__(self, controller: Controller, scheduler: Scheduler, activity: Activity) -> None:
        self._controller = controller
        self._scheduler = scheduler
        self._activity = activity
        self._changes: set[asyncio.Task[Any]] = set()
        self._methods = {f"/flame.v1.Frontend/{name}": handler for name, handler in self._handlers()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a method, or None: UNIMPLEMENTED."""
        return self._methods.get(handler_call_details.method)

    def _handlers(self) -> Iterable[tuple[str, Any]]:
        # The service's own description says what goes in and out of each method.
        for method in messages.DESCRIPTOR.services_by_name["Frontend"].methods:
            request = getattr(messages, method.input_type.name)
            if method.server_streaming:
                stream = self._streamed(getattr(self, method.name))
                handler = grpc.unary_stream_rpc_method_handler(stream, _parser(request), _serialize)
            else:
                unary = self._answered(getattr(self, method.name))
                handler = grpc.unary_unary_rpc_method_handler(unary, _parser(request), _serialize)
            yield method.name, handler

    def _answered(self, method: Callable[[Any], Awaitable[Any]]) -> Any:
        async def call(request: Any, context: Any) -> Any:
            await self._admit(request, context)
            with self._activity.busy():
                try:
                    return await method(request)
                except Exception as error:
                    await _abort(context, error)

        return call

    def _streamed(self, method: Callable[[Any], AsyncIterator[Any]]) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._admit(request, context)
            with self._activity.busy():
                try:
                    async for message in method(request):
                        yield message
                except Exception as error:
                    await _abort(context, error)

        return call

    async def _admit(self, request: Any, context: Any) -> None:
        if isinstance(request, int):
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, too_large(request))

    async def _change(self, change: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.ensure_future(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    # Applications

    async def RegisterApplication(self, request: Any) -> Any:
        return await self._result(self._controller.register_application(request.name, _spec(request)))

    async def UpdateApplication(self, request: Any) -> Any:
        return await self._result(self._controller.update_application(request.name, _spec(request)))

    async def UnregisterApplication(self, request: Any) -> Any:
        return await self._result(self._controller.unregister_application(request.name))

    async def _result(self, change: Coroutine[Any, Any, Any]) -> Any:
        try:
            await self._change(change)
        except Refused as error:
            return types.Result(return_code=-1, message=str(error))
        except StoreError as error:
            return types.Result(return_code=-1, message=str(error))
        return types.Result(return_code=0)

    async def GetApplication(self, request: Any) -> Any:
        return _application(self._controller.get_application(request.name))

    async def ListApplication(self, request: Any) -> Any:
        return types.ApplicationList(applications=map(_application, self._controller.applications.values()))

    # Nodes

    async def ListExecutor(self, request: Any) -> Any:
        return types.ExecutorList(executors=map(_executor, self._scheduler.executors.values()))

    async def ListNodes(self, request: Any) -> Any:
        return types.NodeList(nodes=[node()])

    async def GetNode(self, request: Any) -> Any:
        only = node()
        if request.name != only.metadata.name:
            raise not_found(f"node <{request.name}> not found")
        return messages.GetNodeResponse(node=only)

    # Sessions

    async def CreateSession(self, request: Any) -> Any:
        if not request.HasField("session"):
            raise invalid("session spec")
        return await self._session(
            await self._change(self._controller.create_session(request.session_id, request.session))
        )

    async def OpenSession(self, request: Any) -> Any:
        spec = request.session if request.HasField("session") else None
        return await self._session(await self._change(self._controller.open_session(request.session_id, spec)))

    async def CloseSession(self, request: Any) -> Any:
        return await self._session(await self._change(self._controller.close_session(request.session_id)))

    async def DeleteSession(self, request: Any) -> Any:
        session, common_data, events = await self._change(self._controller.delete_session(request.session_id))
        self._scheduler.drop_logs(session.id)
        return _session(session, common_data, events)

    async def GetSession(self, request: Any) -> Any:
        return await self._session(self._controller.get_session(request.session_id))

    async def _session(self, session: Session) -> Any:
        common_data, events = await self._controller.session_details(session.id)
        return _session(session, common_data, events)

    async def ListSession(self, request: Any) -> Any:
        common_data, events = await self._controller.all_session_details()
        return types.SessionList(
            sessions=[
                _session(session, common_data.get(id), events.get(id, []))
                for id, session in self._controller.sessions.items()
            ]
        )

    # Tasks

    async def CreateTask(self, request: Any) -> Any:
        if not request.HasField("task"):
            raise invalid("session spec")  # as Flame words it
        payload = request.task.input or None  # Flame keeps no empty ones
        return _task(await self._change(self._controller.create_task(request.task.session_id, payload)))

    async def GetTask(self, request: Any) -> Any:
        return _task(await self._controller.get_task(request.session_id, _number(request.task_id)))

    async def WatchTask(self, request: Any) -> AsyncIterator[Any]:
        async for record in self._controller.watch_task(request.session_id, _number(request.task_id)):
            yield _task(record)

    async def ListTask(self, request: Any) -> AsyncIterator[Any]:
        async for record in self._controller.list_tasks(request.session_id):
            yield _task(record)


async def _abort(context: Any, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, FlameError):
        await context.abort(error.code, str(error))
    if not isinstance(error, StoreError):
        log.error("a call failed", exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, str(error) or type(error).__name__)


def _parser(request: Any) -> Callable[[bytes], Any]:
    """Reads a request; of one that is too large only its size."""
    return lambda message: request.FromString(message) if len(message) <= MESSAGE_LIMIT else len(message)


def _serialize(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _spec(request: Any) -> Any:
    if not request.HasField("application"):
        raise invalid("applilcation spec is missed")  # as Flame spells it
    return request.application


def _number(task_id: str) -> int:
    """As Rust reads a 64-bit integer."""
    if re.fullmatch(r"[+-]?[0-9]+", task_id) and -(2**63) <= int(task_id) < 2**63:
        return int(task_id)
    raise invalid("invalid task id")


def _named(name: str) -> Any:
    return types.Metadata(id=name, name=name)


def _events(events: list[Event]) -> list[Any]:
    return [types.Event(code=event.code, message=event.message, creation_time=event.at) for event in events]


def _application(application: Application) -> Any:
    status = types.ApplicationStatus(state=types.Enabled, creation_time=application.created)
    return types.Application(metadata=_named(application.name), spec=application.spec, status=status)


def _session(session: Session, common_data: bytes | None, events: list[Event]) -> Any:
    pending, running, succeed, failed, cancelled = session.counts.values()
    status = types.SessionStatus(
        state=session.state,
        creation_time=session.created,
        completion_time=session.completed,
        pending=pending,
        running=running,
        succeed=succeed,
        failed=failed,
        cancelled=cancelled,
        events=_events(events),
    )
    message = types.Session(metadata=_named(session.id), spec=session.spec, status=status)  # which copies the spec
    if common_data is not None:
        message.spec.common_data = common_data
    return message


def _task(record: TaskRecord) -> Any:
    return types.Task(
        metadata=_named(str(record.id)),
        spec=types.TaskSpec(session_id=record.session, input=record.input, output=record.output),
        status=types.TaskStatus(
            state=record.state,
            creation_time=record.created,
            completion_time=record.completed,
            events=_events(record.events),
        ),
    )


def _executor(executor: Executor) -> Any:
    return types.Executor(
        metadata=_named(executor.id),
        spec=types.ExecutorSpec(node=node().metadata.name, resreq=executor.session.spec.resreq, shim=types.Host),
        status=types.ExecutorStatus(state=_EXECUTOR_STATES[executor.state], session_id=executor.session.id),
    )
