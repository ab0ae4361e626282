"""Whatever is sent to whichever route: an answer in the dialect's form, and nothing told that is another's.

The routes are those of the application itself, so that new ones are tried, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flameagent.client.engine import embedded as embedded_engine
from flameagent.client.environment import Environment
from flameagent.client.users import Users
from flameagent.server import app
from flameagent.server.agents import Agents
from flameagent.server.identity import Guard
from tests.acceptance.program import Program
from tests.acceptance.server.conftest import Served, serving, token_of

MARK = "a text of a conversation that no log has"
FIELDS = [
    *("input", "question", "messages", "model", "agent", "agent_id", "environment", "metadata", "stream", "tools"),
    *("events", "items", "role", "content", "type", "text", "title", "prompt", "instructions", "conversation"),
    *("previous_response_id", "approve", "reject", "reason", "always", "turns", "at", "data", "attachments", "name"),
    *("running", "background", "store", "jsonrpc", "id", "method", "params", "arguments", "session_id", "turn_id"),
    *("request_id", "call_id", "response", "image_url", "filename", "file_data", "approval_request_id", "output"),
    *("limit", "after", "order", "format", "search"),
]
TEXTS = st.sampled_from(
    [
        *(
            "",
            "x",
            MARK,
            "user",
            "message",
            "none",
            "function",
            "openai-agent",
            "tools/call",
            "input_text",
            "a" * 3000,
        ),
        *(
            "agent.session.input.message",
            "data:image/png;base64,AA==",
            "../..",
            "\0",
            "\r\nX: y",
            "\ud800",
            "é\u202e",
        ),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**30) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)

PATHS = st.sampled_from(["own", "other's", "", "x", "..", "\0", "é", "%2f", "a/b", "resp_AA", "x" * 3000, "\r\nX: y"])
QUERIES = st.dictionaries(
    st.sampled_from(FIELDS), TEXTS.filter(lambda text: len(text) < 100 and text != "\ud800"), max_size=3
)
BODIES = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6).map(json.dumps).map(str.encode),
    st.sampled_from([b"", b"[", b"[]", b"\xff", b"null", b'{"a":' * 3000, b"NaN", b"x" * 10_000]),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["x-stainless-retry-count", "idempotency-key", "x-chat-id", "x-message-id", "accept", "content-type"]
    ),
    st.sampled_from([b"1", b"\xb2", b"a" * 600, b"application/json", b"text/event-stream", b"\xc3\xa9"]),
    max_size=3,
)
PEOPLES = ("/memory", "/chat", "/login", "/logout", "/page")


def routes() -> list[tuple[str, str]]:
    """Each path with each of its methods, and with one that it has not."""
    agents = Agents(embedded_engine({}), [], Environment({}))
    made: Any = app.make(agents, Guard(Users(agents.connection)))
    while not hasattr(made, "routes"):  # what is around the application
        made = made.app
    found = {
        (method, route.path)
        for route in made.routes
        for method in (route.methods or {"GET", "POST", "DELETE"}) - {"HEAD", "PUT"}
    }
    return [*sorted(found), ("PUT", "/v1/sessions"), ("PUT", "/v1/responses")]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="module")
def attacked(embedded: Program, log: Path) -> Iterator[Served]:
    """A server of its own, whose log is kept."""
    with log.open("w") as stderr, serving(embedded.having(AGENT_MEMORY="off"), stderr=stderr) as server:
        yield server


def told(http: httpx2.Client, method: str, url: str, **sent: Any) -> tuple[httpx2.Response, bytes]:
    """An answer, of one that is a stream the beginning."""
    with http.stream(method, url, **sent) as answer:
        if "event-stream" in answer.headers.get("content-type", ""):
            return answer, b""
        return answer, answer.read()


def check(path: str, answer: httpx2.Response, body: bytes) -> None:
    """See that an answer is one."""
    assert b"Traceback" not in body
    if answer.status_code < 400:
        return
    if path.startswith("/mcp"):
        assert answer.status_code < 500
        return
    if path == "/" or path.startswith(PEOPLES):
        assert answer.status_code < 500
        if "html" in answer.headers["content-type"]:
            return
    error = json.loads(body)["error"]
    assert {"message", "type", "code", "param"} <= error.keys()
    assert isinstance(error["message"], str) and error["message"]
    assert answer.headers["x-should-retry"] in ("true", "false")
    # A turn may fail, as one that is asked of a model that does not exist does.
    assert answer.status_code < 500 or error["code"] in ("model", "failed", "tool"), error


def attack(http: httpx2.Client, method: str, path: str, names: dict[str, str]) -> None:
    """Send anything to a route; in its path are IDs by their `names`."""

    @settings(
        max_examples=4,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(PATHS, min_size=3, max_size=3), QUERIES, BODIES, HEADERS)
    def send(parts: list[str], query: dict[str, str], body: bytes, headers: dict[str, bytes]) -> None:
        chosen = iter(names.get(each, each) for each in parts)
        url = "/".join(quote(next(chosen), safe="") if part.startswith("{") else part for part in path.split("/"))
        sent = {"params": query, "headers": headers} | ({} if method == "GET" else {"content": body})
        answer, text = told(http, method, url, **sent)
        check(path, answer, text)
        if names["other's"] in url:
            assert answer.status_code >= 400 and MARK.encode() not in text

    send()


def test_whatever_is_sent_is_answered_in_the_dialects_form(attacked: Served, embedded: Program, log: Path) -> None:
    mallory, eve = token_of(embedded, "mallory"), token_of(embedded, "eve")
    with attacked.http(mallory) as http, attacked.http(eve) as victim:
        others = victim.post("/v1/sessions", json={"title": MARK}).json()["session_id"]
        for method, path in routes():
            own = http.post("/v1/sessions", json={}).json()["session_id"]
            attack(http, method, path, {"own": own, "other's": others})
        assert victim.get(f"/v1/sessions/{others}").json()["title"] == MARK
    written = log.read_text()
    assert "Traceback" not in written and "should not have happened" not in written, written[-3000:]
    for secret in (mallory, eve, MARK):
        assert secret not in written
