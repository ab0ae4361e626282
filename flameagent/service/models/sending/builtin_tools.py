"""The Responses API's own tools, as calls of functions with their outputs, which every server takes.

*Hosted* tools are run by the server (web search, MCP), *native* ones here (a shell, a computer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flameagent.service.models.sending.tool_calls import CALLS, Item, json_text, portable_id

_USUAL = ("message", "function_call", "function_call_output", "reasoning")


def as_functions(items: list[Any], *, is_chat: bool) -> list[Item]:
    """Return the items with calls of functions in place of what this API, or a server without its state, has not.

    What is no object is left out; an object of no kind that is known gets the kind `?`.
    """
    if all(type(item) is dict and item.get("type", "message") in _USUAL for item in items):
        return items
    approvals = _approvals(items)
    return [other for item in items if isinstance(item, dict) for other in _functions(item, approvals, is_chat)]


def _functions(item: Item, approvals: dict[str, Item | None], is_chat: bool) -> Iterator[Item]:
    """Yield the item, or the call and the output that say the same to any server."""
    kind = item.get("type")
    if not isinstance(kind, str):
        yield item if kind is None and "role" in item else {**item, "type": "?"}
    elif kind in ("mcp_approval_request", "mcp_approval_response"):
        request = item.get("id" if kind.endswith("request") else "approval_request_id")
        response = approvals.get(repr(request))
        if response is _GOES_ON and not is_chat:
            yield item  # its ID is what the approval names, and the server needs both to run the call
        elif kind.endswith("request") and response is not _HAS_RUN:
            yield from _pair(item, item.get("name"), item.get("arguments"), _refusal(response))
    elif kind in _HOSTED:
        name, arguments, output = _HOSTED[kind](item)
        if output is None:  # the model's answer holds the gist
            yield {"type": "?"}
        else:
            yield from _pair(item, name, arguments, output)
    elif is_chat and kind in _NATIVE:
        name, arguments = _NATIVE[kind](item)
        call = {"type": "function_call", "call_id": item.get("call_id"), "name": name, "arguments": arguments}
        yield call | {"provider_data": item.get("provider_data")}
    elif is_chat and kind in _NATIVE_OUTPUTS:
        call_id = item.get("call_id") or item.get("id")
        yield {"type": "function_call_output", "call_id": call_id, "output": _parts_of_output(item.get("output"))}
    else:
        yield item


def _pair(item: Item, name: Any, arguments: Any, output: Any) -> Iterator[Item]:
    """Yield a call that a server ran itself as one that was run here."""
    call_id = portable_id(f"{item.get('type')} {item.get('id')}")
    call = {"type": "function_call", "call_id": call_id, "name": name}
    yield call | {"arguments": arguments if isinstance(arguments, str) else json_text(arguments)}
    yield {"type": "function_call_output", "call_id": call_id, "output": output}


_HAS_RUN: Item = {}
_GOES_ON: Item = {}


def _approvals(items: list[Item]) -> dict[str, Item | None]:
    """Return what became of requests for an approval of hosted MCP tools: `_HAS_RUN`, `_GOES_ON` or the response."""
    found: dict[str, Item | None] = {}
    last_message = 0
    for place, item in enumerate(items):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        if kind == "message":
            last_message = place
        elif kind == "mcp_approval_response":
            found[repr(item.get("approval_request_id"))] = {**item, "place": place}
        elif kind == "mcp_call" and item.get("approval_request_id"):
            found[repr(item["approval_request_id"])] = _HAS_RUN
    for request, response in found.items():
        if response and response.get("approve") and response["place"] > last_message:
            found[request] = _GOES_ON
    return found


def _refusal(response: Item | None) -> str:
    if response is None:
        return "Nobody has decided on this call; it was not run."
    if response.get("approve"):
        return "This call was approved, and what came of it is not known."
    return f"A human rejected this call. {response.get('reason') or ''}".strip()


def _searched_files(item: Item) -> tuple[Any, Any, Any]:
    return "file_search", {"queries": item.get("queries")}, item.get("results") and json_text(item["results"])


def _interpreted(item: Item) -> tuple[Any, Any, Any]:
    return "code_interpreter", {"code": item.get("code")}, json_text(item.get("outputs") or [])


def _drew(item: Item) -> tuple[Any, Any, Any]:
    said = "The image was made." if item.get("result") else "No image was made."
    return "image_generation", {"prompt": item.get("revised_prompt")}, said


def _called_mcp(item: Item) -> tuple[Any, Any, Any]:
    output = item.get("output")
    if output is None:
        error = item.get("error")
        output = f"The call failed: {error if isinstance(error, str) else json_text(error)}" if error else ""
    return item.get("name"), item.get("arguments"), output


def _nothing(item: Item) -> tuple[Any, Any, Any]:
    return "", "", None


# Tools that a server ran itself, under an ID of its own: name, arguments and output; None where that is not known.
_HOSTED: dict[str, Callable[[Item], tuple[Any, Any, Any]]] = {
    "mcp_call": _called_mcp,
    "mcp_list_tools": _nothing,
    "web_search_call": _nothing,
    "file_search_call": _searched_files,
    "code_interpreter_call": _interpreted,
    "image_generation_call": _drew,
}


def _named(name: str, *names: str) -> Callable[[Item], tuple[str, str]]:
    def read(item: Item) -> tuple[str, str]:
        return name or str(item.get("name") or ""), json_text({key: item[key] for key in names if key in item})

    return read


# Tools that are run here: name and arguments.
_NATIVE = {
    "custom_tool_call": _named("", "input"),
    "computer_call": _named("computer", "action", "actions"),
    "local_shell_call": _named("local_shell", "action"),
    "shell_call": _named("shell", "action"),
    "apply_patch_call": _named("apply_patch", "operation"),
}
_NATIVE_OUTPUTS = {CALLS[kind] for kind in _NATIVE}


def _parts_of_output(output: Any) -> Any:
    if isinstance(output, dict) and isinstance(output.get("image_url"), str):
        return [{"type": "input_image", "image_url": output["image_url"]}]
    return output
