"""Sentences on a terminal: where their lines are broken."""

from __future__ import annotations

import pytest

from flameagent.cli.terminal.screen import _between_words

_SUPPORT = "/Volumes/ada/Library/Application Support/flame-openai-agent/settings.toml"


@pytest.mark.parametrize(
    "piece",
    [
        "/etc/flame/ca.crt",
        _SUPPORT,
        f"{_SUPPORT}:",
        f"({_SUPPORT}).",
        "'/srv/The Weather in Lisbon/talks/one'",
        "~/My Files/of last year/talk.json",
        "https://flame.example:8080/a/long/path",
    ],
)
def test_a_path_or_an_address_is_broken_nowhere(piece: str) -> None:
    lines = _between_words(f"The settings in {piece} cannot be read: Permission denied.", 20)
    assert lines == ["The settings in", piece, "cannot be read:", "Permission denied."]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("/a/b or ~/.flame/flame.yaml", ["/a/b or", "~/.flame/flame.yaml"]),
        ("see /var/log, or docs/reliability.md", ["see /var/log, or", "docs/reliability.md"]),
        ("ask /a/b or https://flame.example", ["ask /a/b or", "https://flame.example"]),
        (
            "use /a/b where nobody else has written to/read from it",
            ["use /a/b where", "nobody else has", "written to/read from", "it"],
        ),
        ("  two words that\n\n  stand in  lines", ["  two words that", "", "  stand in  lines"]),
    ],
)
def test_other_words_are_parted_as_ever(text: str, lines: list[str]) -> None:
    assert _between_words(text, 20) == lines
