"""Attachments: images, files and texts that a turn names; each is an object of the session, items refer to it.

Promises that bytes are stored once, under their hash, and that no record holds them: an item has a reference in the
place of its data, such as `flame-attachment:image/png;name=cat.png,<sha256>`. Nothing here knows of models.
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote, unquote

from flameagent import files
from flameagent.conversation.records import Attached, Block, Item
from flameagent.flame.errors import NotFound
from flameagent.text import well_formed
from flamewire.failpoints import failpoint

if TYPE_CHECKING:
    from flameagent.flame.objects import Rows
    from flamewire.object_ref import ObjectRef

IMAGES = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}
"""The images that models take, each with the ending of its files."""

PDF = "application/pdf"

DOCUMENTS = {
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
"""Documents that some models take, by the ending of their files; their bytes are those of a ZIP."""

UNKNOWN = "application/octet-stream"
"""The media type of what no model takes."""

_MEMORY = 64 * 1024 * 1024  # bytes that are kept of what was read

_SCHEME = "flame-attachment:"
_REFERENCE = re.compile(r"flame-attachment:([^;,]+);name=([^,]*),([0-9a-f]{64})")
_HASH = re.compile(r"[0-9a-f]{64}")
_DATA = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.IGNORECASE)


class Reference(NamedTuple):
    """What an item has in the place of an attachment's data."""

    media_type: str
    name: str
    sha256: str

    @classmethod
    def read(cls, text: Any) -> Reference | None:
        """The reference in a part's `image_url` or `file_data`; None for anything else."""
        if not (isinstance(text, str) and text.startswith(_SCHEME)):
            return None
        found = _REFERENCE.fullmatch(text)
        return cls(found[1], unquote(found[2]), found[3]) if found else None

    def __str__(self) -> str:
        return f"{_SCHEME}{self.media_type};name={quote(self.name, safe='', errors='replace')},{self.sha256}"


class Cache(Protocol):
    """The object cache, as far as attachments need it; `flameagent.flame.cache.ObjectCache` is one."""

    def get(self, key: str, since: int = 0) -> Rows: ...
    def put_as(self, key: str, data: bytes) -> ObjectRef: ...


class AttachmentGone(Exception):
    """The object of an attachment is not in the cache any more, or holds something else. The message is its hash."""


class AttachmentStore:
    """The attachments of one session, under `<application>/<session>`; what was read last is kept in memory.

    `guard` surrounds each write, as of a `ConversationLog`. For several threads at once. Raises `FlameError`.
    """

    def __init__(
        self, cache: Cache, prefix: str, guard: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self._cache = cache
        self._prefix = prefix
        self._guard = guard
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        """Store bytes, unless they are there, since a PUT on a key that exists is not atomic; their hash."""
        name = sha256(data).hexdigest()
        if not self.has(name):
            with self._guard():
                failpoint("attachment: before")
                self._cache.put_as(f"{self._prefix}/{name}", data)
                failpoint("attachment: stored")
        self._keep(name, data)
        return name

    def has(self, name: str) -> bool:
        """True where the bytes of that hash are there; costs no transfer of them."""
        try:
            self._cache.get(f"{self._prefix}/{name}", since=1)  # the version of what was put once: no rows come
        except NotFound:
            return False
        return True

    def read(self, name: str) -> bytes:
        """The bytes of that hash. Raises `AttachmentGone`."""
        with self._lock:
            if (data := self._kept.get(name)) is not None:
                self._kept.move_to_end(name)
                return data
        try:
            found = self._cache.get(f"{self._prefix}/{name}").base
        except NotFound as error:
            raise AttachmentGone(name) from error
        if found is None or sha256(found).hexdigest() != name:
            raise AttachmentGone(name)
        self._keep(name, found)
        return found

    def _keep(self, name: str, data: bytes) -> None:
        with self._lock:
            self._kept[name] = data
            self._kept.move_to_end(name)
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _MEMORY:
                self._kept.popitem(last=False)


def describe(name: str, data: bytes) -> Attached:
    """These bytes as a turn names them. `name` may be a path, of which the last part counts."""
    name = well_formed(PurePath(name).name or name)
    return Attached(name, media_type(name, data), len(data), sha256(data).hexdigest())


def media_type(name: str, data: bytes) -> str:
    """The media type of bytes: by what they are, and by their name only what text or document they are."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data.startswith(b"%PDF-"):
        return PDF
    if data.startswith(b"PK\x03\x04"):
        return DOCUMENTS.get(PurePath(name).suffix.lower(), UNKNOWN)
    try:
        files.decoded(data)
    except files.NotText:
        return UNKNOWN
    guessed = mimetypes.guess_type(name)[0] or ""
    return guessed if guessed.startswith("text/") else "text/plain"


def is_text(media_type: str) -> bool:
    """True for what a model is given as text."""
    return media_type.startswith("text/")


def read_list(given: Any) -> list[Attached]:
    """The attachments that a Question names. Raises `ValueError` for what names none."""
    found = []
    for each in given or []:
        if not isinstance(each, dict):
            raise ValueError(f"{type(each).__name__} is no attachment")
        name, kind, size, digest = (each.get(field) for field in ("name", "media_type", "size", "sha256"))
        texts = isinstance(name, str) and isinstance(kind, str) and re.fullmatch(r"[\w.+-]+/[\w.+-]+", kind)
        if not (texts and isinstance(size, int) and isinstance(digest, str) and _HASH.fullmatch(digest)):
            raise ValueError("an attachment has a name, a media_type, a size and a sha256")
        found.append(Attached(str(name), str(kind), size, digest))
    return found


def part(attached: Attached) -> Item:
    """The part of a message that refers to it."""
    reference = str(Reference(attached.media_type, attached.name, attached.sha256))
    if attached.media_type in IMAGES:
        return {"type": "input_image", "image_url": reference, "detail": "auto"}
    return {"type": "input_file", "filename": attached.name, "file_data": reference}


def extracted(item: Any, put: Callable[[bytes], str], call: str = "") -> tuple[Any, list[Attached]]:
    """The same with references in the place of images and files, whose bytes are `put`; and what they are.

    `call` is the tool call that they came of. What is no base64 stays as it is.
    """
    found: list[Attached] = []

    def walk(value: Any, call: str) -> Any:
        if isinstance(value, list):
            return [walk(each, call) for each in value]
        if not isinstance(value, dict):
            return value
        call = str(value.get("call_id") or call)
        walked = {key: walk(each, call) if isinstance(each, dict | list) else each for key, each in value.items()}
        for key in ("image_url", "file_data"):
            if isinstance(text := value.get(key), str) and (data := _decoded(text, key)):
                attached = _describe_part(value, text, data, call)
                put(data)
                found.append(attached)
                walked[key] = str(Reference(attached.media_type, attached.name, attached.sha256))
        return walked

    return walk(item, call), found


def may_have_data(text: str) -> bool:
    """True where the JSON of an item may hold the data of an image or a file: a cheap look, before `extracted`."""
    return ";base64," in text or '"file_data"' in text


def _decoded(text: str, key: str) -> bytes | None:
    head = _DATA.match(text)
    if head is None and (key != "file_data" or text.startswith(_SCHEME)):
        return None  # an address, or a reference already
    try:
        written = "".join((text[head.end() :] if head else text).split())  # some break it into lines
        return base64.b64decode(written, validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _describe_part(value: Item, text: str, data: bytes, call: str) -> Attached:
    given = value.get("filename")
    attached = describe(given if isinstance(given, str) and given else "", data)
    kind, head = attached.media_type, _DATA.match(text)
    if kind == UNKNOWN and head and head[1]:
        kind = head[1].lower()
    ending = f".{IMAGES[kind]}" if kind in IMAGES else mimetypes.guess_extension(kind) or ".bin"
    name = attached.name or f"{attached.sha256[:8]}{ending}"
    return Attached(name, kind, attached.size, attached.sha256, call)


def whole(items: Iterable[Item], read: Callable[[Reference], bytes | None]) -> list[Item]:
    """The items with data in the places of references, in the form that both APIs of OpenAI have for them.

    A text becomes one. What `read` gives no bytes of is named in a text.
    """
    return [_filled(item, read) for item in items]


def _filled(item: Item, read: Callable[[Reference], bytes | None]) -> Item:
    changed = {}
    for field in ("content", "output"):
        value = item.get(field)
        parts = value if isinstance(value, list) else [value]
        made = [_with_data(each, read) for each in parts]
        if any(new is not old for new, old in zip(made, parts, strict=True)):
            changed[field] = made if isinstance(value, list) else made[0]
    return {**item, **changed} if changed else item


def _with_data(part: Any, read: Callable[[Reference], bytes | None]) -> Any:
    if not isinstance(part, dict):
        return part
    for field in ("image_url", "file_data"):
        if not (reference := Reference.read(part.get(field))):
            continue
        if (data := read(reference)) is None:
            return {"type": "input_text", "text": f"[{reference.name} was left out: its data are gone]"}
        if is_text(reference.media_type):
            return {"type": "input_text", "text": f"Attached file {reference.name}:\n\n{_text(data)}"}
        url = f"data:{reference.media_type};base64,{base64.b64encode(data).decode()}"
        named = {} if field == "image_url" else {"filename": part.get("filename") or reference.name}
        return {**part, **named, field: url}
    return part


def _text(data: bytes) -> str:
    try:
        return files.decoded(data, "replace")
    except files.NotText:  # a program may have said that it is one
        return data.decode(errors="replace").replace("\0", "")


def named(blocks: Iterable[Block]) -> dict[str, Attached]:
    """The attachments that these blocks name, by hash, oldest first."""
    found: dict[str, Attached] = {}
    for block in blocks:
        for attached in block.turn.attachments if block.turn is not None else []:
            found.setdefault(attached.sha256, attached)
    return found


def of_question(attachments: Iterable[Attached]) -> list[Attached]:
    """Those among a turn's attachments that came with its question."""
    return [attached for attached in attachments if not attached.call]
