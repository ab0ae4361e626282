"""A server of embeddings: what it may send, and that everything else is one sentence without a key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flameagent.memory import embeddings
from flameagent.memory.embeddings import Embeddings, EmbeddingsError, Server, chosen
from tests.support.model_server import ModelServer, Step, meaning

KEY = "sk-a-secret-key-0123456789"


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def client(server: ModelServer) -> Embeddings:
    return Embeddings(Server("m", server.url, KEY), {})


def data(*vectors: Any, **more: Any) -> Step:
    entries = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)]
    return Step(body=json.dumps({"object": "list", "data": entries} | more))


def test_texts_have_their_vectors_in_one_request(server: ModelServer, client: Embeddings) -> None:
    assert client.of(["a cat", "the bread"], 5) == [meaning("a cat"), meaning("the bread")]
    (request,) = server.requests
    assert (request.path, request.json) == ("/v1/embeddings", {"model": "m", "input": ["a cat", "the bread"]})
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert client.of(["half of a pair: \ud83d"], 5)


def test_a_server_that_numbers_nothing_is_taken_at_its_order(server: ModelServer, client: Embeddings) -> None:
    server.vectors.append(Step(body=json.dumps({"data": [{"embedding": [1, 2]}, {"embedding": [3, 4]}]})))
    assert client.of(["a", "b"], 5) == [[1.0, 2.0], [3.0, 4.0]]


WRONG: dict[str, tuple[Step, str]] = {
    "fewer": (data([1.0]), "gave 1 vectors for 2 texts"),
    "more": (data([1.0], [1.0], [1.0]), "gave 3 vectors for 2 texts"),
    "of other lengths": (data([1.0], [1.0, 2.0]), "gave vectors of different lengths"),
    "empty": (data([], []), "gave vectors of different lengths"),
    "not a number": (
        Step(body='{"data": [{"embedding": [NaN]}, {"embedding": [1.0]}]}'),
        "gave an answer that holds no vectors",
    ),
    "without an end": (
        Step(body='{"data": [{"embedding": [1e999]}, {"embedding": [1.0]}]}'),
        "gave an answer that holds no vectors",
    ),
    "too large to add": (data([1e308, 1e308], [1.0, 1.0]), "gave vectors of what are no numbers"),
    "texts": (data("abc", "def"), "gave an answer that holds no vectors"),
    "twice the same": (
        Step(body='{"data": [{"embedding": [1], "index": 0}, {"embedding": [1], "index": 0}]}'),
        "gave vectors of which nobody can tell to which texts they belong",
    ),
    "no JSON": (Step(body=f"<html>{KEY}</html>"), "gave an answer that holds no vectors"),
    "a nest": (Step(body="[" * 100_000), "gave an answer that holds no vectors"),
    "no key": (
        Step(status=401, body=f'{{"error": "{KEY}"}}'),
        "does not take the key (401): set AGENT_EMBEDDINGS_API",
    ),
    "no such model": (
        Step(status=404, body="{}"),
        "knows no /embeddings, or no model m (404): check AGENT_EMBEDDINGS",
    ),
    "too much": (Step(status=429, body="{}"), "has too much to do, or what is paid for is used up (429)"),
    "refused": (Step(status=400, body="{}"), "does not take the texts for the model m (400)"),
    "broken": (Step(status=503, body="{}"), "answered with the status 503"),
    "redirected": (Step(status=307, body="", headers={"Location": "http://127.0.0.1:1/"}), "redirects (307)"),
    "broken off": (Step(body='{"data": []}', broken="length"), "cannot be reached, or broke off"),
    "silent": (Step(body="", broken="silent"), "cannot be reached, or broke off"),
    "slow": (Step(body="{}", delay=5), "did not answer within 0.2 seconds"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_server_does_wrong_is_a_sentence(server: ModelServer, client: Embeddings, wrong: str) -> None:
    step, said = WRONG[wrong]
    server.vectors.append(step)
    with pytest.raises(EmbeddingsError) as raised:
        client.of(["a", "b"], 0.2 if step.delay else 5)
    assert str(raised.value).startswith(f"The embeddings server {server.url} {said}")
    assert KEY not in repr(raised.value) and KEY not in repr(client.server)
    assert len(server.requests) == 1, "nobody waits for another attempt"


def test_a_server_that_is_not_there_is_a_sentence() -> None:
    client = Embeddings(Server("m", "http://user:password@127.0.0.1:1/v1?key=secret", ""), {})
    with pytest.raises(EmbeddingsError) as raised:
        client.of(["a"], 5)
    assert str(raised.value) == "The embeddings server http://127.0.0.1:1/v1 cannot be reached, or broke off."
    with pytest.raises(EmbeddingsError, match="HTTPS_PROXY is http://"):
        Embeddings(Server("m", "https://models.example/v1", ""), {"HTTPS_PROXY": "http://["})


def test_an_answer_without_end_ends(server: ModelServer, client: Embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_MOST", 1000)
    server.vectors.append(Step(body=" " * 2000))
    with pytest.raises(EmbeddingsError, match="gave an answer that does not end"):
        client.of(["a"], 5)


def refusing(server: ModelServer, refuses: Callable[[str], bool]) -> None:
    """Have the server refuse each request with such a text in it."""

    class Steps(list[Step]):
        def __bool__(self) -> bool:
            return any(map(refuses, server.requests[-1].json["input"]))

        def popleft(self) -> Step:
            return Step(status=400, body="{}")

    server.vectors = Steps()  # type: ignore[assignment]


def test_one_text_that_is_refused_does_not_keep_the_others_from_theirs(
    server: ModelServer, client: Embeddings
) -> None:
    long = "cat " * 400
    refusing(server, lambda text: "bad" in text or len(text) > 1000)
    found = client.of_each(["a cat", "bad", long, "bread"], 5)
    assert [vector and list(vector) for vector in found] == [
        meaning("a cat"),
        None,
        meaning(long[:500]),
        meaning("bread"),
    ]
    assert client.of_each([long], 5) == [meaning(long[:500])]


def test_a_server_that_refuses_every_text_is_not_asked_for_all_of_them(
    server: ModelServer, client: Embeddings
) -> None:
    refusing(server, lambda text: True)
    with pytest.raises(EmbeddingsError, match="does not take the texts"):
        client.of_each([f"text {number}" for number in range(30)], 5)
    assert len(server.requests) == 4


OPENAI = "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("environ", "server"),
    [
        ({}, None),
        ({"AGENT_EMBEDDINGS": " "}, None),
        ({"AGENT_EMBEDDINGS": "${AGENT_EMBEDDINGS}"}, None),
        ({"AGENT_EMBEDDINGS": "m", "OPENAI_API_KEY": "k"}, Server("m", OPENAI, "k")),
        ({"AGENT_EMBEDDINGS": "m", "OPENAI_BASE_URL": "http://a/v1/"}, Server("m", "http://a/v1", "")),
        ({"AGENT_EMBEDDINGS": "m@http://b/v1", "OPENAI_API_KEY": "k"}, Server("m", "http://b/v1", "")),
        (
            {"AGENT_EMBEDDINGS": "m@http://b/e", "OPENAI_BASE_URL": "http://b/v1", "OPENAI_API_KEY": "k"},
            Server("m", "http://b/e", "k"),
        ),
        ({"AGENT_EMBEDDINGS": "m@http://b", "AGENT_EMBEDDINGS_API_KEY": "e"}, Server("m", "http://b", "e")),
        ({"AGENT_EMBEDDINGS": "@cf/b-m3@https://u:p@b/v1"}, Server("@cf/b-m3", "https://u:p@b/v1", "")),
    ],
)
def test_the_settings_choose_a_server_and_a_key_goes_where_it_was_set_for(
    environ: dict[str, str], server: Server | None
) -> None:
    assert chosen(environ) == server
    assert "secret" not in repr(Server("m", "http://b", "secret"))


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"AGENT_EMBEDDINGS": "m"}, "AGENT_EMBEDDINGS needs OPENAI_API_KEY, or the address of a server"),
        ({"AGENT_EMBEDDINGS": "m@http://"}, "AGENT_EMBEDDINGS is the name of a model, or MODEL@URL with"),
        ({"AGENT_EMBEDDINGS": "m@http://b:x/v1"}, "AGENT_EMBEDDINGS is the name of a model, or MODEL@URL with"),
        ({"AGENT_EMBEDDINGS": "m", "OPENAI_BASE_URL": "nowhere"}, "OPENAI_BASE_URL is not an address"),
        ({"AGENT_EMBEDDINGS": "m", "OPENAI_API_KEY": "schlüssel"}, "The key for the embeddings holds characters"),
    ],
)
def test_a_setting_that_makes_no_sense_is_a_sentence(environ: dict[str, str], said: str) -> None:
    with pytest.raises(EmbeddingsError, match="^" + said):
        chosen(environ)
