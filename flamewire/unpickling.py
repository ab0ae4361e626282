"""The one unpickler: what came over the wire is read without running anything that a pickle can run."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from functools import cache
from typing import Any, NoReturn


def unpickle(data: bytes | None, *kinds: type) -> Any:
    """The value in a pickle that names no classes or functions but `kinds`, by their module and name.

    Raises `ValueError`, with what is wrong, for any other bytes.
    """
    given = _stand_ins(kinds)
    try:
        value = _Restricted(io.BytesIO(data or b""), given).load()
        if kinds:
            _name_again(value, dict(zip(given.values(), kinds, strict=True)))
        return value
    except Exception as error:  # a pickle can be broken in any way
        raise ValueError(str(error)) from error


class _Sealed(type):
    """A class of which a pickle, which can set the attributes of all that it gets, cannot set any."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"it changes {cls.__name__}")


@cache
def _stand_ins(kinds: tuple[type, ...]) -> Mapping[tuple[str, str], type]:
    """For each kind a class that values have while they are read."""
    return {
        (kind.__module__, kind.__name__): _Sealed(kind.__name__, (kind,), {"__module__": kind.__module__})
        for kind in kinds
    }


class _Restricted(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, given: Mapping[tuple[str, str], type]) -> None:
        super().__init__(file)
        self._given = given

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._given[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}") from None


def _name_again(value: Any, kinds: Mapping[type, type]) -> None:
    """Give the value, and all in it, the kinds themselves. Each part is looked at once, however often it is in."""
    seen: set[int] = set()
    rest = [value]
    while rest:
        part = rest.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, list | tuple | set | frozenset):
            rest.extend(part)
        elif isinstance(part, dict):
            rest.extend([*part, *part.values()])
        elif type(part) in kinds:
            part.__class__ = kinds[type(part)]
            rest.extend(vars(part).values())
