"""Items as a person reads them."""

from typing import Any

import pytest

from flameagent.conversation.item_text import describe_call, describe_item, shorten


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ({"role": "user", "content": "hi"}, ("user", "hi")),
        (
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "a"}, {"text": "b"}],
            },
            ("assistant", "a\nb"),
        ),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, ("assistant", "(refused) no")),
        (
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": "data:…"}, {"type": "input_text", "text": "?"}],
            },
            ("user", "[image]\n?"),
        ),
        ({"role": "user", "content": [{"type": "input_file", "filename": "a.pdf"}]}, ("user", "[file a.pdf]")),
        ({"type": "function_call", "name": "f", "arguments": '{"a": 1}', "call_id": "c"}, ("call", 'f({"a": 1})')),
        ({"type": "function_call_output", "call_id": "c", "output": "sunny"}, ("result", "sunny")),
        (
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "sunny"}]},
            ("result", "sunny"),
        ),
        ({"type": "function_call_output", "output": {"a": "é"}}, ("result", '{"a": "é"}')),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, ("reasoning", "hm")),
        ({"type": "reasoning", "summary": [], "encrypted_content": "x"}, ("reasoning", "(not shown by the model)")),
        ({"type": "web_search_call", "id": "x", "action": {"q": "z"}}, ("web_search", '{"action": {"q": "z"}}')),
        ({}, ("message", "")),
        ({"role": None, "content": 5}, ("message", "5")),
        ({"type": "message", "role": "user", "content": [None, 5, [], {"odd": 1}]}, ("user", '5\n{"odd": 1}')),
    ],
)
def test_every_item_is_readable(item: dict[str, Any], shown: tuple[str, str]) -> None:
    assert describe_item(item) == shown


def test_a_long_text_is_folded_and_says_how_much_is_missing() -> None:
    assert shorten("short\nenough\n") == "short\nenough"
    assert shorten("x" * 601) == "x" * 600 + " … (1 more characters)"
    assert shorten("\n".join("abcdefghij")) == "a\nb\nc\nd\ne\nf\ng\nh … (4 more characters)"
    assert shorten("a\n\n\n\n\n\n\n\n\n\n") == "a"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("{}", "f"),
        ('{"place": "Lis\\nbon", "days": 3, "of": ["a"]}', "f Lis bon, 3, a"),
        ("no JSON", "f no JSON"),
        ("[1, null]", "f 1,"),
        ("", "f"),
        (f'{{"a": "{"x" * 200}"}}', f"f {'x' * 97}…"),
        ("[" * 100_000, f"f {'[' * 97}…"),
    ],
)
def test_a_call_is_one_line(arguments: str, line: str) -> None:
    assert describe_call("f", arguments) == line
