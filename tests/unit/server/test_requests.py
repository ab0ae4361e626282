"""What a request may say, and what its answer may not: without an engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flameagent.client.errors import ClientError, NoEngine, NotRegistered, TurnFailed
from flameagent.client.users import User
from flameagent.flame import Unreachable
from flameagent.server import identity
from flameagent.server.body import as_object
from flameagent.server.errors import RequestError, of_client, one_line
from flameagent.server.identity import Guard, Guarded, token_of
from flameagent.server.once import Once


def asked(*headers: tuple[str, str]) -> Request:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "method": "POST", "path": "/v1/x", "headers": raw, "identity": identity.Identity("ada")}
    return Request({**scope, "query_string": b"", "scheme": "http", "server": ("here", 80)})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_json_has_not_is_refused(number: str) -> None:
    with pytest.raises(RequestError, match="not JSON"):
        as_object(f'{{"a": [{number}]}}'.encode())
    assert as_object(b'{"a": [1.5, 1e30, 12345678901234567890123]}') == {"a": [1.5, 1e30, 12345678901234567890123]}


def test_a_body_of_very_many_values_is_not_read() -> None:
    with pytest.raises(RequestError, match="too many values") as refused:
        as_object(b'{"a": [' + b"[]," * 1_000_001 + b"[]]}")
    assert refused.value.status == 413
    assert len(as_object(b'{"a": [' + b"0," * 1000 + b"0]}")["a"]) == 1001


@pytest.mark.parametrize(
    ("count", "repeated"), [("0", False), ("1", True), ("\xb2", False), ("9" * 5000, True), ("", False)]
)
def test_what_says_how_often_a_request_was_made_is_a_number_or_nothing(count: str, repeated: bool) -> None:
    assert Once.of(asked(("x-stainless-retry-count", count)), b"{}").repeated is repeated


def test_of_two_tokens_in_one_request_none_counts() -> None:
    assert token_of(asked(("authorization", "Bearer a"))) == "a"
    assert token_of(asked(("authorization", "Bearer a"), ("authorization", "Bearer b"))) == ""
    assert (
        token_of(
            asked(("authorization", "Bearer a"), ("authorization", "Bearer b"), ("cookie", "flame_agent_token=c"))
        )
        == ""
    )


def test_what_the_engine_says_of_its_addresses_and_files_is_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def refused() -> ClientError:
        try:
            raise ClientError("The object cache at grpc://10.0.0.7:9090 failed") from Unreachable("it")
        except ClientError as error:
            return error

    secrets = [
        NoEngine("Nobody answers at 10.0.0.7."),
        NotRegistered("Register /srv/10.0.0.7/agent.yaml."),
        refused(),
    ]
    for error in secrets:
        told = of_client(error)
        assert "10.0.0.7" not in str(told) and str(told).endswith(".")
        assert told.code == error.code
    assert caplog.text.count("10.0.0.7") == len(secrets)
    assert str(of_client(TurnFailed("The model refused.", code="model"))) == "The model refused."


def test_a_line_of_the_log_stays_one() -> None:
    assert one_line("/a\r\nERROR: b\x1b[31m é\u2028") == "/a\\r\\nERROR: b\\x1b[31m é\\u2028"


class People:
    """Users of whom one may be revoked."""

    def __init__(self) -> None:
        self.known = True

    def with_token(self, token: str) -> User | None:
        return User("ada", "user", 0) if self.known else None


async def test_an_open_stream_ends_when_its_token_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_ASKED_AGAIN", 0.02)
    people, sent, told = People(), list[Message](), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        told.set()
        assert (await receive())["type"] == "http.disconnect"

    async def refuse(request: Request, error: RequestError) -> ASGIApp:
        return error.response()

    async def receive() -> Message:
        return await asyncio.Future[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    guard: Any = Guard(people)  # type: ignore[arg-type]
    scope = {**asked(("authorization", "Bearer t")).scope, "identity": None}
    serving = asyncio.ensure_future(Guarded(application, guard, refuse)(scope, receive, send))
    await told.wait()
    await asyncio.sleep(0.1)
    assert not serving.done()
    people.known = False
    async with asyncio.timeout(20):
        await serving
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize("begun", [True, False])
async def test_a_request_that_a_server_which_ends_gives_up_is_told_so(begun: bool) -> None:
    sent, told = list[Message](), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        told.set()
        await receive()

    async def refuse(request: Request, error: RequestError) -> ASGIApp:
        return error.response()

    async def receive() -> Message:
        return await asyncio.Future[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    guard: Any = Guard(People())  # type: ignore[arg-type]
    scope = {**asked(("authorization", "Bearer t")).scope, "identity": None}
    serving = asyncio.ensure_future(Guarded(application, guard, refuse)(scope, receive, send))
    await told.wait()
    serving.cancel()
    await serving
    assert sent[0]["status"] == (200 if begun else 503)
    assert not sent[-1].get("more_body", False)
