"""Pickles of classes by the names that they have on the wire, whatever modules they are defined in here.

`unpickle` runs nothing that a pickle can run; `dumps` and `loads` are pickle's own, but for the names.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any, NoReturn, TypeAlias

Names: TypeAlias = Mapping[tuple[str, str], type]
"""Classes by the module and the name under which pickles refer to them."""


def unpickle(data: bytes | None, names: Names | None = None) -> Any:
    """The value in a pickle that refers to nothing but these names.

    Raises `ValueError`, with what is wrong, for any other bytes.
    """
    given = _stand_ins(tuple((names or {}).items()))
    try:
        value = _Restricted(io.BytesIO(data or b""), dict(given)).load()
        if names:
            _name_again(value, {stand_in: names[name] for name, stand_in in given})
        return value
    except Exception as error:  # a pickle can be broken in any way
        raise ValueError(str(error)) from error


def loads(data: bytes, names: Names) -> Any:
    """The value in any pickle, with these classes under these names. It runs what the pickle says."""
    return _Renamed(io.BytesIO(data), names).load()


def dumps(value: Any, names: Mapping[tuple[str, str], tuple[str, str]]) -> bytes:
    """The pickle of a value, in which what has the first name of a pair is referred to by the second."""
    data = pickle.dumps(
        value, protocol=3
    )  # refers by an opcode of its own, where later ones take what is on the stack
    modules = {module.encode() for module, _ in names}
    if not any(module in data for module in modules):
        return data
    if sum(map(data.count, modules)) == 1:  # it may be in a text, or is what a message begins with
        for first, second in names.items():
            if data.startswith(head := b"\x80\x03" + _referred(first)):
                return b"\x80\x03" + _referred(second) + data[len(head) :]
    opcodes = [(opcode.name, argument, start or 0) for opcode, argument, start in pickletools.genops(data)]
    renamed, done = b"", 0
    for (opcode, argument, start), (_, _, end) in pairwise(opcodes):
        if opcode == "GLOBAL" and (name := names.get(tuple(str(argument).split(" ", 1)))):  # type: ignore[arg-type]
            renamed += data[done:start] + _referred(name)
            done = end
    return renamed + data[done:]


def _referred(name: tuple[str, str]) -> bytes:
    return f"c{name[0]}\n{name[1]}\n".encode()


class _Renamed(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, names: Names) -> None:
        super().__init__(file)
        self._names = names

    def find_class(self, module: str, name: str) -> Any:
        return self._names.get((module, name)) or super().find_class(module, name)


class _Sealed(type):
    """A class of which a pickle, which can set the attributes of all that it gets, cannot set any."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"it changes {cls.__name__}")


@cache
def _stand_ins(names: tuple[tuple[tuple[str, str], type], ...]) -> tuple[tuple[tuple[str, str], type], ...]:
    """For each name a class that values have while they are read."""
    return tuple((name, _Sealed(kind.__name__, (kind,), {"__module__": kind.__module__})) for name, kind in names)


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
