"""The arguments of the Python API, checked against its annotations, so that a wrong one is told in a sentence."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

from flameagent.client.errors import UsageError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Kind = TypeVar("Kind")

_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    bytes: "bytes",
    None: "None",
    Sequence: "a list",
    Mapping: "a dict",
    Callable: "a function",
}
_SHOWN = 60


def methods_checked(kind: type[Kind]) -> type[Kind]:
    """Have each public method of a class raise `UsageError` for an argument of a wrong type."""
    for name, method in list(vars(kind).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(kind, name, checked(method))
    return kind


def checked(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Have a function raise `UsageError` for an argument that is not of its annotation.

    What an annotation says of the elements of a sequence counts too; one that cannot be resolved says nothing.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*given: Parameters.args, **named: Parameters.kwargs) -> Result:
        try:
            bound = signature.bind(*given, **named)
        except TypeError:
            return function(*given, **named)  # which says what is missing, or too much
        for name, hint in _hints(function).items():
            if name in bound.arguments and not _fits(bound.arguments[name], hint):
                shown = _shown(bound.arguments[name])
                raise UsageError(f"{function.__name__}: {name} is {shown}, not {_words(hint)}.")
        return function(*given, **named)

    return run


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    found = {}
    for name, annotation in inspect.get_annotations(function).items():
        if name != "return":
            try:
                code = isinstance(annotation, str)
                found[name] = eval(annotation, function.__globals__) if code else annotation  # noqa: S307 - our own
            except NameError:  # imported for type checkers alone
                continue
    return found


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if hint is None or hint is type(None):
        return value is None
    if origin is Callable:
        return callable(value)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        if isinstance(value, str | bytes) or not isinstance(value, origin):
            return False
        return not inner or all(_fits(each, inner[0]) for each in value)
    if isinstance(origin, type):
        return isinstance(value, origin)
    # A protocol says nothing: only what uses the value finds out.
    return not isinstance(hint, type) or getattr(hint, "_is_protocol", False) or isinstance(value, hint)


def _words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(each) for each in inner if each is not type(None)))
    if origin is tuple:
        return f"({', '.join(_words(each) for each in inner)})"
    if isinstance(origin, type) and issubclass(origin, Sequence) and inner and inner[0] is str:
        return "a list of texts"
    of = origin or hint
    return next((words for kind, words in _WORDS.items() if kind is of), f"a {getattr(of, '__name__', of)}")


def _shown(value: Any) -> str:
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"
