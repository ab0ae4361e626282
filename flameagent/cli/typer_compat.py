"""typer's own ways that are changed here: values are converted without pydantic, and help names no types.

Typer 0.29 converts each option with a pydantic adapter, whose import takes as long as all the rest of a command.
Ours are texts and numbers, for which Python's own types do.
"""

from __future__ import annotations

from typing import Any

import typer.core
from typer._click import Context
from typer._coercion import RuntimeParam, TypeDescriptor


def convert_quickly() -> None:
    """Have all options and arguments of this process converted by Python's own types."""
    typer.core.build_runtime_param = _plain  # type: ignore[attr-defined]


def _plain(descriptor: TypeDescriptor) -> RuntimeParam:
    return _Plain(descriptor.parameter_info, descriptor.annotation)


def hide_types() -> None:
    """Have help name what an option takes by its metavar alone, where typer puts `<bool>` beside each flag."""
    typer.core.TyperOption.display_type_rich = lambda self, ctx: self.metavar  # type: ignore[method-assign]
    typer.core.TyperArgument.display_type_rich = lambda self, ctx: None  # type: ignore[method-assign]


class _Plain(RuntimeParam):
    def _coerce_value(self, value: Any, param: Any, ctx: Context) -> Any:
        kind: Any = self.annotation
        try:
            converted = kind(value)
        except ValueError as error:
            raise typer.BadParameter(f"{value!r} is not a number.", ctx=ctx, param=param) from error
        least = self.parameter_info.min
        if least is not None and converted < least:
            raise typer.BadParameter(f"{value} is less than {least}.", ctx=ctx, param=param)
        return converted
