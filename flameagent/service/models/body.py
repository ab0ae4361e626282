"""The JSON values in the body of a response, however they are framed: `reading` makes answers of them.

A server sends one JSON value, server-sent events, or a value a line, and not always what it was asked for. All are
read by one rule: a line is a field of server-sent events or a piece of JSON, and a value is passed on as soon as it
is whole. Bytes that are no UTF-8 become U+FFFD, as in WHATWG's definition of server-sent events.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True)
class Value:
    """A JSON value; `event` is the name of the event that it is the data of, None outside of server-sent events."""

    json: Any
    event: str | None = None


@dataclass(frozen=True)
class Text:
    """Text that is no JSON; `event` as that of a value."""

    text: str
    event: str | None = None


@dataclass(frozen=True)
class Done:
    """`[DONE]`: the server says that it has sent all."""


Part = Value | Text | Done


class BodyBroken(Exception):
    """The body did not come to its end; `stopped` if it stayed open and nothing came."""

    def __init__(self, stopped: bool) -> None:
        self.stopped = stopped


class BodyUndecodable(Exception):
    """The body is not compressed as its head says."""


_FIELDS = {"", "data", "event", "id", "retry"}  # "" is a comment
_FIELD_AGAIN = re.compile(r"\A(\s*data:)+")  # who gives Spring's SseEmitter a whole line sends "data:data: {…}"
_SPACE = re.compile(r"\s*")
_json = json.JSONDecoder()


class Decoder:
    """Turns bytes, in pieces of any size, into parts."""

    def __init__(self) -> None:
        self._head = b""
        self._characters: io.IncrementalNewlineDecoder | None = None
        self._line: list[str] = []  # pieces of a line that has not ended
        self._open: list[str] = []  # lines of a value that is not whole
        self._event: str | None = None

    def feed(self, data: bytes, final: bool = False) -> list[Part]:
        """Return the parts that these bytes complete; `final`: there are no more."""
        if self._characters is None:
            self._head += data
            if len(self._head) < 4 and not final:  # as many as tell the encoding
                return []
            data, self._head = self._head, b""
            encoding = json.detect_encoding(data)
            self._characters = io.IncrementalNewlineDecoder(
                codecs.getincrementaldecoder(encoding)("replace"), translate=True
            )
        first, *more = self._characters.decode(data, final).split("\n")
        self._line.append(first)
        parts: list[Part] = []
        for following in more:
            parts += self._take("".join(self._line))
            self._line = [following]
        if final:
            parts += self._take("".join(self._line))
            parts += self._close()
            self._line = []
        return parts

    def _take(self, line: str) -> Iterator[Part]:
        line = line.lstrip("\ufeff")
        name, colon, content = line.partition(":")
        if colon and name.strip() in _FIELDS:
            if self._event is None:
                yield from self._close()
                self._event = ""
            if name.strip() == "event":
                self._event = content.strip()
            elif name.strip() == "data":
                yield from self._add(_FIELD_AGAIN.sub("", content))
        elif line.strip():
            if self._event is not None:  # JSON between events: errors come so
                yield from self._close()
                self._event = None
            yield from self._add(line)
        elif self._event is not None:  # an empty line ends an event, and nothing else
            yield from self._close()
            self._event = ""

    def _add(self, text: str) -> Iterator[Part]:
        self._open.append(text)
        if len(self._open) == 1 and text.lstrip()[:1] in {"{", "["} and (parts := self._parse(text)):
            self._open = []
            yield from parts

    def _close(self) -> Iterator[Part]:
        text, self._open = "\n".join(self._open).strip(), []
        if text:
            yield from self._parse(text) or [Text(text, self._event)]

    def _parse(self, text: str) -> list[Part]:
        """The values that a text consists of, or nothing if it holds anything else."""
        parts: list[Part] = []
        at = _end_of_space(text, 0)
        while at < len(text):
            if text.startswith("[DONE]", at):
                parts.append(Done())
                at += len("[DONE]")
            else:
                try:
                    value, at = _json.raw_decode(text, at)
                except (ValueError, RecursionError):
                    return []
                parts.append(Value(value, self._event))
            at = _end_of_space(text, at)
        return parts


def _end_of_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def values_of(content: bytes) -> list[Any]:
    """The values in a whole body; text that is no JSON is one of them, as a string."""
    parts = Decoder().feed(content, final=True)
    return [part.json if isinstance(part, Value) else part.text for part in parts if not isinstance(part, Done)]


_BEHIND_THE_END = 1.0  # seconds


class Body:
    """The body of a response, read part by part; to be closed.

    A part has to come within `seconds`: a server that waits for its turn keeps the connection busy with comments,
    which the client's own timeout takes for progress.
    """

    def __init__(self, response: httpx2.Response, seconds: float) -> None:
        self._response = response
        self._seconds = seconds
        self._bytes = response.aiter_bytes()

    async def parts(self) -> AsyncIterator[Part]:
        """Yield what came, and then raise `BodyBroken` or `BodyUndecodable` if that was not all."""
        decoder = Decoder()
        ended = False
        failure: Exception | None = None
        while not ended:
            parts: list[Part] = []
            try:
                async with asyncio.timeout(self._seconds):
                    while not parts and not ended:
                        try:
                            parts = decoder.feed(await anext(self._bytes))
                        except StopAsyncIteration:
                            ended = True
            except (TimeoutError, httpx2.TimeoutException):
                ended, failure = True, BodyBroken(stopped=True)
            except httpx2.DecodingError:
                ended, failure = True, BodyUndecodable()
            except (httpx2.TransportError, httpx2.StreamError):
                ended, failure = True, BodyBroken(stopped=False)
            if ended:
                parts += decoder.feed(b"", final=True)
            for part in parts:
                yield part
        if failure:
            raise failure

    async def drain(self) -> None:
        """Read what comes behind the end, so that the connection can be used again; it changes nothing any more."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_BEHIND_THE_END):
                async for _ in self._bytes:
                    pass

    async def close(self) -> None:
        await self._response.aclose()
