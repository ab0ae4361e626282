"""Configuration that people write: YAML within the bounds of that, and values as a sentence shows them.

Promises that reading takes no longer than the text is long: aliases that multiply each other (nine lines can stand
for a billion values) and nesting that overflows a stack are refused before anything is made of them.
"""

from __future__ import annotations

from typing import Any

_LONGEST = 1_000_000  # characters
_DEPTH = 100
_VALUES = 10_000
_SHOWN = 100  # characters


def load(text: str) -> Any:
    """Read YAML of one document, or None of an empty one. Raises `ValueError` as `load_all` does, and for several."""
    documents = load_all(text)
    if len(documents) > 1:
        raise ValueError(": it has several documents, where there is to be one")
    return documents[0] if documents else None


def load_all(text: str) -> list[Any]:
    """Read the documents of YAML, which `---` divides.

    Raises `ValueError`: the line, where it is known, and the reason, as the end of a sentence.
    """
    import yaml  # only where there is a file to read

    # The C loader is ten times as fast; not every build of PyYAML has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _measure(yaml, text, loader)
        return list(yaml.load_all(text, Loader=loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"{where}: {reason}") from error
    except Exception as error:  # of PyYAML's constructors: a date without such a month, a number of 5000 digits
        raise ValueError(f": {error}") from error


def _measure(yaml: Any, text: str, loader: Any) -> None:
    """Raises `ValueError` for what is nested too deeply, or has too many values with all that aliases stand for."""
    if len(text) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} characters")
    count = 0
    begun: list[tuple[str | None, int]] = []
    sizes: dict[str | None, int] = {}
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            inside = any(anchor == event.anchor for anchor, _ in begun)  # of what it names: that never ends
            count += _VALUES if inside else sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, count))
            sizes.pop(event.anchor, None)
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            sizes[anchor] = count - before
        if len(begun) > _DEPTH:
            raise ValueError(f"it is nested more than {_DEPTH} levels deep")
        if count > _VALUES:
            raise ValueError(f"it stands for more than {_VALUES} values")


def shortened(value: object) -> str:
    """A value as Python writes it, or the beginning of that."""
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
