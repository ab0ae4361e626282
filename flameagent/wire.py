"""The messages of `apis` as pickles: Flame's SDK pickles them by name, and those names stay.

A pickle says `apis.Question`, whatever the module is called that has the class here: programs with only `apis.py`,
and nodes and clients of any version, read what others write. Nobody else's module `apis` is ever imported for it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from flameagent.apis import Answer, Decision, MyContext, Question
from flamewire import pickling

Message = TypeVar("Message", Question, Decision, Answer, MyContext)

_KINDS: tuple[type, ...] = (Question, Decision, Answer, MyContext)
_WRITTEN = {(kind.__module__, kind.__name__): ("apis", kind.__name__) for kind in _KINDS}
_READ = {(module, kind.__name__): kind for kind in _KINDS for module in ("apis", kind.__module__)}


def write(value: Any) -> bytes:
    """The bytes that `flamepy.service.Session` would send of a message, or of anything that can be pickled."""
    return pickling.dumps(value, _WRITTEN)


def read(data: bytes | None, *kinds: type) -> Any:
    """What is in the pickle of messages of these kinds. Runs nothing; raises `ValueError` for any other bytes."""
    return pickling.unpickle(data, {name: kind for name, kind in _READ.items() if kind in kinds})


def read_any(data: bytes) -> Any:
    """What is in any pickle, which may run anything: Flame's protocol, inside an instance."""
    return pickling.loads(data, _READ)


def adopt(value: object, kind: type[Message]) -> Message | None:
    """A message of a program's own `apis.py` as ours; None for anything that is none of that name."""
    if isinstance(value, kind):
        return value
    if type(value).__name__ != kind.__name__ or not hasattr(value, "__dataclass_fields__"):
        return None
    return kind(**{field.name: getattr(value, field.name) for field in fields(kind) if hasattr(value, field.name)})
