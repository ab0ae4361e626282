"""A server of embeddings, asked for the vectors of texts as OpenAI's `/embeddings` is.

Promises that whatever it does is a sentence in an `EmbeddingsError`, within the time that it was given, and without a
key; and that vectors which come back are one for each text, of equal length, of finite numbers.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

import msgspec

from flameagent.conversation.codec import decode
from flameagent.model_choice import OPENAI_URL, ModelError, is_address, settings
from flameagent.network import client_options
from flameagent.text import well_formed

SETTING = "AGENT_EMBEDDINGS"
KEY = "AGENT_EMBEDDINGS_API_KEY"

QUESTION_TIMEOUT = 2.0
"""Seconds for the vector of a question, while somebody waits."""

STORE_TIMEOUT = 60.0
"""Seconds for the vectors of turns, while nobody does."""

_SETTING = re.compile(r"(?P<model>.+?)(?:@(?P<url>https?://.*))?", re.DOTALL)  # the name of a model may have an @
_MOST = 64 * 1024 * 1024  # bytes of an answer
_SHORT = 500  # characters of a text that was refused as it was
_REFUSALS = 3  # texts one after the other, after which no other is tried

Vector: TypeAlias = Sequence[float]


class EmbeddingsError(Exception):
    """No vectors are to be had; the message says why, in a sentence."""


class RefusedTexts(EmbeddingsError):
    """The server does not take these texts; it may take others."""


@dataclass(frozen=True)
class Server:
    """Who makes vectors: a model, and the base URL of its server."""

    model: str
    base_url: str
    api_key: str = field(repr=False)

    @property
    def shown_url(self) -> str:
        """The URL for people: without what may be a secret."""
        parts = urlsplit(self.base_url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def chosen(environ: Mapping[str, str]) -> Server | None:
    """The server that the settings choose; None: none is wanted.

    A key goes to the address that it was set for: `OPENAI_API_KEY` to the model's, and to another only one that was
    set for embeddings. Raises `EmbeddingsError`.
    """
    known = {name: value.strip() for name, value in settings(environ).items()}
    if not (setting := known.get(SETTING, "")):
        return None
    named = _SETTING.fullmatch(setting)
    if named is None or not is_address(named["url"] or OPENAI_URL):
        raise EmbeddingsError(
            f"{SETTING} is the name of a model, or MODEL@URL with an address such as {OPENAI_URL}: set it again."
        )
    of_model = known.get("OPENAI_BASE_URL", OPENAI_URL).rstrip("/")
    url = (named["url"] or of_model).rstrip("/")
    key = known.get(KEY, "")
    if not key and _origin(url) == _origin(of_model):
        key = known.get("OPENAI_API_KEY", "")
    if not is_address(url):
        raise EmbeddingsError(f"OPENAI_BASE_URL is not an address such as {OPENAI_URL}: set it again.")
    if not (key.isascii() and key.isprintable()):
        raise EmbeddingsError("The key for the embeddings holds characters that no key has: set it again.")
    if not key and url == OPENAI_URL:
        raise EmbeddingsError(f"{SETTING} needs OPENAI_API_KEY, or the address of a server behind the model's name.")
    return Server(named["model"], url, key)


class Embeddings:
    """A client of a server. Blocking; for several threads. Nothing is asked twice: whoever asks decides on that."""

    def __init__(self, server: Server, environ: Mapping[str, str]) -> None:
        """Raises `EmbeddingsError` where there is no way to the server."""
        import httpx2

        self.server = server
        parts = urlsplit(server.base_url)
        self._url = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/embeddings"))
        headers = {"Authorization": f"Bearer {server.api_key}"} if server.api_key else {}
        try:
            self._client = httpx2.Client(
                **client_options(server.base_url, environ), headers=headers, follow_redirects=False
            )
        except ModelError as error:
            raise EmbeddingsError(str(error)) from error
        except (ValueError, OSError) as error:
            raise EmbeddingsError(f"There is no way to the embeddings server {server.shown_url}.") from error

    @property
    def model(self) -> str:
        """The model's name."""
        return self.server.model

    def of(self, texts: Sequence[str], timeout: float) -> list[Vector]:
        """A vector for each text, in `timeout` seconds. Raises `EmbeddingsError`."""
        found = self._read(self._asked(texts, timeout))
        if len(found) != len(texts):
            raise self._wrong(f"gave {len(found)} vectors for {len(texts)} texts")
        return found

    def of_each(self, texts: Sequence[str], timeout: float) -> list[Vector | None]:
        """The same, where the server may take some texts and not others: None for those. Raises `EmbeddingsError`.

        Which they are is found by asking for each alone, and once more for its beginning.
        """
        try:
            return list(self.of(texts, timeout))
        except RefusedTexts as error:
            refused = error
        found: list[Vector | None] = []
        for text in texts:
            parts = (text[:_SHORT],) if len(texts) == 1 else (text, text[:_SHORT])
            found.append(self._first(parts, timeout))
            if len(found) >= _REFUSALS and not any(found):
                break
        if not any(found):
            raise refused
        return found

    def _first(self, texts: Sequence[str], timeout: float) -> Vector | None:
        """The vector of the first that the server takes."""
        for text in dict.fromkeys(texts):
            try:
                return self.of([text], timeout)[0]
            except RefusedTexts:
                continue
        return None

    def _asked(self, texts: Sequence[str], timeout: float) -> bytes:
        """The body of an answer."""
        import httpx2

        deadline = time.monotonic() + timeout
        asked = msgspec.json.encode({"model": self.model, "input": [well_formed(text) for text in texts]})
        late = f"did not answer within {timeout:g} seconds"
        body = bytearray()
        try:
            with self._client.stream(
                "POST", self._url, content=asked, headers={"Content-Type": "application/json"}, timeout=timeout
            ) as response:
                if response.status_code != 200:
                    raise self._failed(response.status_code)
                for piece in response.iter_bytes():
                    body += piece
                    if time.monotonic() > deadline:
                        raise self._wrong(late)
                    if len(body) > _MOST:
                        raise self._wrong("gave an answer that does not end")
        except httpx2.TimeoutException as error:
            raise self._wrong(late) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, UnicodeError) as error:
            raise self._wrong("cannot be reached, or broke off") from error
        return bytes(body)

    def _read(self, body: bytes) -> list[Vector]:
        try:
            entries = decode(body, _Answer).data
        except (ValueError, RecursionError) as error:
            raise self._wrong("gave an answer that holds no vectors of numbers") from error
        places = [entry.index for entry in entries]
        if any(place is not None for place in places):
            if sorted(-1 if place is None else place for place in places) != list(range(len(entries))):
                raise self._wrong("gave vectors of which nobody can tell to which texts they belong")
            entries.sort(key=lambda entry: entry.index or 0)
        vectors = [entry.embedding for entry in entries]
        if len({len(vector) for vector in vectors}) > 1 or not all(vectors):
            raise self._wrong("gave vectors of different lengths")
        if not all(math.isfinite(sum(map(abs, vector))) for vector in vectors):
            raise self._wrong("gave vectors of what are no numbers")
        return list(vectors)

    def _failed(self, status: int) -> EmbeddingsError:
        """What a status says. What the server says besides is not told: nobody knows whose key may be in it."""
        match status:
            case 401 | 403:
                return self._wrong(f"does not take the key ({status}): set {KEY}")
            case 404 | 405:
                return self._wrong(f"knows no /embeddings, or no model {self.model} ({status}): check {SETTING}")
            case 429:
                return self._wrong("has too much to do, or what is paid for is used up (429)")
            case 400 | 413 | 422 | 500:
                told = f"does not take the texts for the model {self.model} ({status})"
                return RefusedTexts(str(self._wrong(told)))
        if 300 <= status < 400:
            return self._wrong(f"redirects ({status}), and a key goes to no other address: check {SETTING}")
        return self._wrong(f"answered with the status {status}")

    def _wrong(self, what: str) -> EmbeddingsError:
        return EmbeddingsError(f"The embeddings server {self.server.shown_url} {what}.")


class _Entry(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Entry]


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    try:
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return parts.scheme, parts.hostname, None
