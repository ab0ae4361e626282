"""Keys in a text that is shown."""

import pytest

from flameagent.model_choice import Choice
from flameagent.redact import redact
from flameagent.service.models.explain import explain


@pytest.mark.parametrize(
    "secret",
    ["env-key-123456", "choice-key-123456", "sk-proj-abc_DEF-123", "Bearer abc.def", "sk-ab***yz", "pass-word"],
)
def test_no_key_is_shown(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_API_KEY", "env-key-123456")
    choice = Choice("m", "compatible", "http://u:pass-word@h/v1", "choice-key-123456", "OPENAI_API_KEY")
    sentence = explain(ValueError(f"no {secret}, sorry"), choice)
    assert sentence == "ValueError: no [key], sorry"


def test_words_that_are_no_key_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", "none")
    assert redact("a task-oriented answer: none of **these**") == "a task-oriented answer: none of **these**"
