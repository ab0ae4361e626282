"""The one unpickler: what came over the wire is read without running anything that a pickle can run."""

from __future__ import annotations

import io
import pickle
from typing import Any


def unpickle(data: bytes | None, *kinds: type) -> Any:
    """The value in a pickle that names no classes or functions but `kinds`, by their module and name.

    Raises `ValueError`, with what is wrong, for any other bytes.
    """
    # A pickle can set attributes of the classes that it gets: it gets others, which nobody uses after it.
    given = {(kind.__module__, kind.__name__): type(kind.__name__, (kind,), {}) for kind in kinds}
    try:
        return _as_named(_Restricted(io.BytesIO(data or b""), given).load(), {*given.values()})
    except Exception as error:  # a pickle can be broken in any way
        raise ValueError(str(error)) from error


class _Restricted(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, given: dict[tuple[str, str], type]) -> None:
        super().__init__(file)
        self._given = given

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._given[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}") from None


def _as_named(value: Any, given: set[type]) -> Any:
    if type(value) in given:
        value.__class__ = type(value).__mro__[1]
        for inner in vars(value).values():
            _as_named(inner, given)
    return value
