"""Configuration that is too much: refused in a sentence, and at once."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flameagent.flame.documents import load, shortened


def multiplied(first: str, more: str, levels: int) -> str:
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} {more.format(', '.join([f'*a{i - 1}'] * 9))}" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (multiplied("x", "[{}]", 10), "it stands for more than 10000 values"),
        (multiplied("{x: 1}", "{{<<: [{}]}}", 8), "it stands for more than 10000 values"),
        (multiplied("{x: 1}", "{{y: [{}]}}", 40), "it stands for more than 10000 values"),
        ("a: &a [*a]", "it stands for more than 10000 values"),
        (f"[{'1, ' * 20_000}]", "it stands for more than 10000 values"),
        ("[" * 100_000, "it is nested more than 100 levels deep"),
        ("- " * 5000, "it is nested more than 100 levels deep"),
        ("{a: " * 3000, "it is nested more than 100 levels deep"),
        ("\n".join(f"{' ' * i}a:" for i in range(1000)), "it is nested more than 100 levels deep"),
        ("x" * 1_000_001, "it is longer than 1000000 characters"),
        ("a: 2001-13-01", "month must be in 1..12"),
        (f"a: {'9' * 5000}", "digits"),
        ("a: !!int ''", ": "),
        ("a: !!timestamp x", ": "),
        ("a: *b", " (line 1): found undefined alias"),
        ("\x00", ": "),
    ],
)
def test_what_nobody_writes_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^( \(line \d+\))?: ") as refused:
        load(text)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_what_people_write_is_read() -> None:
    text = (
        "tls: &tls {ca_file: /ca}\ncontexts:\n- {name: a, cluster: {tls: *tls}}\n- {name: b, cluster: {<<: *tls}}\n"
    )
    assert load(text) == yaml.safe_load(text)
    assert load("") is None


TEXTS = st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20) | st.sampled_from("\t\nß→🔥"), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_it_reads_what_was_written(value: object, flow: bool) -> None:
    assert load(yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)) == value


def test_a_value_in_a_sentence_is_short() -> None:
    assert shortened("x") == "'x'"
    assert len(shortened(["x" * 1000])) == 100
    assert shortened(16**5000) == "a number of thousands of digits"
