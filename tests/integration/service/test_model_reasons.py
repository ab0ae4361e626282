"""What a server says in an error reaches the user: whatever its shape, without a key, in one harmless line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flameagent.model_choice import Choice
from flameagent.redact import redact
from flameagent.service.models.explain import explain
from flameagent.service.models.reason import find_reason
from tests.integration.service import reading_cases as cases
from tests.integration.service.reading_cases import SAYS, sse
from tests.integration.service.test_model_answers import KEY, failure
from tests.support.model_server import ModelServer, Step

STATUSES = (400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 503)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("shape", [*cases.ERRORS, "a text", "a page"])
async def test_the_reason_of_a_status_is_said(server: ModelServer, shape: str, api: str) -> None:
    texts = {"a text": SAYS, "a page": f"<html><head><title>{SAYS}</title></head><body>nginx</body></html>"}
    body = texts.get(shape) or cases.ERRORS[shape][0]
    for status in STATUSES[:: 1 if shape == "OpenAI" else 4]:
        for stream in (False, True):
            server.steps.append(Step(status=status, body=body))
            sentence = await failure(server.url, stream=stream, api=api)
            assert sentence.endswith(SAYS), sentence


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": "Bad Request", "message": "no model m"}', "Bad Request: no model m"),
        ('{"error": {"message": "m not found", "code": "m not found"}}', "m not found"),
        ('{"detail": [{"loc": ["body", "messages", 0], "msg": "missing"}]}', "body.messages.0: missing"),
        ('{"detail": [{"msg": "one"}, {"msg": "two"}]}', "one; two"),
        ('{"error": {"code": "model_overloaded"}}', "model_overloaded"),
        (
            '{"error": {"message": "Provider returned error", "metadata": {"raw": "busy"}}}',
            "Provider returned error: busy",
        ),
        ("<html><head><title>502 Bad &amp; Gateway</title></head></html>", "502 Bad & Gateway"),
        ("<?xml version='1.0'?><Error><Code>x</Code><Message>no access</Message></Error>", "no access"),
        ("upstream connect error\nreset reason: overflow", "upstream connect error reset reason: overflow"),
        ("", "it does not say why"),
        ("{}", "it does not say why"),
        ('{"errors": {"model": ["is required"]}}', '{"errors": {"model": ["is required"]}}'),
        ('{"Response": {"Error": {"Message": "no cake"}}}', '{"Message": "no cake"}}}'),
        (
            '{"error": {"error": {"error": {"error": {"error": {"error": {"error": {"error": "x"}}}}}}}}',
            '{"error": {"error": {"error": {"error": {"error": {"error": {"error": {"error": "x"}}}}}}}}',
        ),
        (sse({"error": {"message": "in an event"}}), "in an event"),
    ],
)
async def test_a_reason_is_found(server: ModelServer, body: str, said: str) -> None:
    server.steps.append(Step(status=400, body=body))
    assert (await failure(server.url, stream=False)).endswith(said)


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
@pytest.mark.parametrize(
    "shown",
    [
        KEY,
        KEY[:12],
        KEY[4:16],
        f"{KEY[:6]}...{KEY[-4:]}",
        f"{KEY[:6]}…{KEY[-4:]}",
        f"{KEY[:3]}*{KEY[-4:]}",
        f"****{KEY[-4:]}",
        f"...{KEY[-4:]}",
        f"a key that ends in {KEY[-4:]}",
        "AIzaSyA1234567890abcdefghijklmnopqrstu",
        "gsk_abcdefghijklmnop0123456789",
        "Bearer abcdef.ghijkl",
        "Basic dXNlcjpwYXNzd29yZDE=",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "api_key=deadbeef1234",
        'Incorrect API key provided: "zz99yy88xx77"',
        "0123456789abcdef0123456789abcdef",
        "https://example.com/?key=abcdefgh",
    ],
)
async def test_a_reason_holds_no_key(server: ModelServer, shown: str, status: int) -> None:
    body = json.dumps({"error": {"message": f"out of cake ({shown})"}})
    server.steps.append(Step(status=status, body=body))
    sentence = await failure(server.url, stream=False)
    secret = shown.rpartition(" ")[2].rpartition("=")[2].strip('"') or shown
    assert "out of cake" in sentence
    assert "[key]" in sentence
    assert secret not in sentence
    for at in range(len(KEY) - 7):
        assert KEY[at : at + 8] not in sentence


@pytest.mark.parametrize(
    "text", ["HTTP Basic authentication", "max_token: 12345", "a tokenizer of GPT", "sk-", "é" * 40]
)
def test_a_reason_keeps_what_is_no_key(text: str) -> None:
    assert find_reason({"error": text}) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["error", "message", "detail", "msg", "loc", "code", "x"]), inner)
        ),
    )
)
def test_a_reason_is_one_harmless_line(body: object) -> None:
    said = find_reason(body)
    assert len(said) <= 300
    assert said.isprintable()


def test_a_reason_is_bounded_and_harmless() -> None:
    said = find_reason({"error": "a\x1b[31mred\u202egnp\u2066\ud83d\u200b\n\tb" + "long " * 10_000})
    assert said.startswith("a [31mred gnp b")
    assert len(said) == 300
    assert find_reason("<" * 100_000) == "<" * 300 or len(find_reason("<" * 100_000)) <= 300


@given(
    st.text(alphabet="abcdefgh0123456789-_", min_size=12, max_size=60),
    st.integers(0, 40),
    st.integers(8, 60),
    st.text(),
)
def test_eight_characters_of_the_key_are_never_shown(key: str, start: int, length: int, around: str) -> None:
    choice = Choice("m", "compatible", "http://h/v1", key, "OPENAI_API_KEY")
    shown = redact(f"{around} {key[start : start + length]} {around}", choice)
    for at in range(len(key) - 7):
        assert key[at : at + 8] not in shown.replace("[key]", "\0")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_redirect_to_another_host_is_refused_and_said(
    server: ModelServer, stream: bool, status: int, api: str
) -> None:
    with ModelServer() as other:
        location = f"{other.url}/chat/completions?token=abc"
        server.steps.append(Step(status=status, body="", headers={"Location": location}))
        sentence = await failure(server.url, stream=stream, api=api, retries=2)
        assert f"redirects to {other.url}/chat/completions ({status})" in sentence
        assert f"set OPENAI_BASE_URL to {other.url}" in sentence
        assert "abc" not in sentence
        assert not other.requests
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("https://127.0.0.1:8443/v1/chat/completions", "set OPENAI_BASE_URL to https://127.0.0.1:8443/v1"),
        ("/v2/chat/completions", "/v2/chat/completions (308)"),
        ("/v1/chat/completions", "Check OPENAI_BASE_URL"),
        ("/v1/chat/completions/", "Check OPENAI_BASE_URL"),
        ("//user:pass-word@elsewhere.example/login", "redirects to http://elsewhere.example/login (308)"),
        ("http://[", "redirects to what is no address (308)"),
        ("http://a b\u202e", "redirects to"),
    ],
)
async def test_any_redirect_is_named(server: ModelServer, location: str, said: str) -> None:
    server.steps.append(Step(status=308, body="", headers={"Location": location.encode().decode("latin-1")}))
    sentence = await failure(server.url, stream=False)
    assert said in sentence
    assert "pass-word" not in sentence
    assert sentence.isprintable()
    assert len(server.bodies) == 1


def test_any_error_is_printable() -> None:
    assert explain(ValueError("a\x1b[2J\u202eb")) == "ValueError: a [2J b"
