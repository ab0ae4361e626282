"""Sentences that others begin, and that another of ours follows."""

from __future__ import annotations

import pytest

from flameagent.text import closed


@pytest.mark.parametrize(
    ("said", "ended"),
    [
        ("Invalid JSON in model output", "Invalid JSON in model output."),
        ("It failed.", "It failed."),
        ("Is it there?", "Is it there?"),
        ("It went on …", "It went on …"),
        ('It said "no."', 'It said "no."'),
        ("It said 'no'", "It said 'no'."),
        ("see here: ", "see here."),
        ("(as ever.)", "(as ever.)"),
        ("f(x)", "f(x)."),
        ("", ""),
    ],
)
def test_a_sentence_has_an_end_before_the_next(said: str, ended: str) -> None:
    assert closed(said) == ended
