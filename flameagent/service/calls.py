"""Tool calls as people see them: their ID, their tool and their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from agents.items import ToolApprovalItem


class ShownCall(NamedTuple):
    """A tool call as it is shown: `arguments` are JSON as the model wrote it."""

    id: str
    tool: str
    arguments: str


def shown_call(raw: Any, tool: str = "") -> ShownCall:
    """Return a call of the SDK as it is shown, under the name of its tool or that one."""
    read = reader(raw)
    name = tool or read("name") or read("type") or "tool"
    return ShownCall(str(read("call_id") or read("id") or ""), str(name), str(read("arguments") or ""))


def tool_of(item: ToolApprovalItem) -> str:
    """Return the name of a call's tool, with where it is from: two servers may have a tool of one name."""
    read = reader(item.raw_item)
    label = read("server_label") or (read("provider_data") or {}).get("server_label")
    return f"{label}.{item.tool_name}" if label else item.qualified_name or str(read("type") or "tool")


def reader(raw: Any) -> Callable[[str], Any]:
    """Return how to read a call's fields: a restored state has dicts where a run has objects."""
    return raw.get if isinstance(raw, dict) else lambda name: getattr(raw, name, None)
