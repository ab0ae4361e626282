"""The settings: the one table of what can be set, under which names, and what each may be.

From it come the options of the command line, the settings file, what `status` shows, and the tables in README.md and
docs/terminal.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from flameagent.model_choice import OPENAI_URL, is_address, is_window

TIMEOUT = 330.0
"""Seconds that a client waits for an answer: somewhat more than the agent gives itself."""


@dataclass(frozen=True)
class Setting:
    """A variable; with a `name` it is a line of the settings file, too, and an option of the command line.

    `about` is for the list of variables, `help` and `metavar` are the option's. `kinds` are what the file may have.
    `complaint` says what is wrong with a text, as a sentence goes on behind the name of who set it; "" where nothing
    is. `of` is who reads it: the agent, for its `model` or otherwise, the way to a `flame` cluster, the `client`, or
    the `engine`.
    """

    variable: str
    about: str
    of: Literal["model", "agent", "flame", "client", "engine"]
    name: str = ""
    option: str = ""
    metavar: str | None = None
    help: str = ""
    kinds: tuple[type, ...] = (str,)
    complaint: Callable[[str], str] = lambda text: ""


def _address(text: str) -> str:
    return f"is an address such as {OPENAI_URL}, not {text!r}" if text and not is_address(text) else ""


def _api(text: str) -> str:
    return "" if text in ("chat", "responses") else f"is chat or responses, not {text!r}"


def _window(text: str) -> str:
    return "" if is_window(text) else f"is a number above 0 or all, not {text!r}"


def _seconds(text: str) -> str:
    try:
        seconds = float(text)
    except ValueError:
        return f"is a number of seconds, not {text!r}"
    return "" if math.isfinite(seconds) and seconds > 0 else "is a number of seconds above 0"


def _switch(text: str) -> str:
    return "" if text in ("0", "1") else f"is 1 or 0, not {text!r}"


SETTINGS: tuple[Setting, ...] = (
    Setting("OPENAI_API_KEY", "an OpenAI key; optional with `OPENAI_BASE_URL`", "model"),
    Setting("DEEPSEEK_API_KEY", "a DeepSeek key; the model is `deepseek-chat`", "model"),
    Setting(
        "AGENT_MODEL",
        "another model than the provider's default; `local` is the small one",
        "model",
        "model",
        "--model",
        "NAME",
        "Ask this model; `local` is the small one that needs no key.",
    ),
    Setting(
        "OPENAI_BASE_URL",
        "any server that speaks chat completions",
        "model",
        "base_url",
        "--base-url",
        "URL",
        "The model's server, on the embedded engine; otherwise `OPENAI_BASE_URL`.",
        complaint=_address,
    ),
    Setting(
        "AGENT_API",
        "`responses` or `chat`: how the model's server is asked; without it OpenAI by Responses, others by chat "
        "completions",
        "model",
        "api",
        "--api",
        "chat|responses",
        "How the model's server is asked, on the embedded engine; otherwise `AGENT_API`.",
        complaint=_api,
    ),
    Setting(
        "AGENT_HISTORY",
        "how many items of the conversation the model sees at most: a number (200), or `all`",
        "model",
        "history",
        "--history",
        "N|all",
        "How many items the model sees at most, on the embedded engine; otherwise `AGENT_HISTORY`.",
        kinds=(int, str),
        complaint=_window,
    ),
    Setting(
        "AGENT_MODEL_TIMEOUT",
        "how many seconds one call of the model may take (120)",
        "model",
        "model_timeout",
        "--model-timeout",
        "SECONDS",
        "How long one call of the model may take, on the embedded engine; otherwise `AGENT_MODEL_TIMEOUT`.",
        kinds=(int, float),
        complaint=_seconds,
    ),
    Setting("AGENT_TIMEOUT", "how many seconds a turn may take (300)", "agent"),
    Setting("AGENT_LOG", "`json` makes each line of an instance's log a JSON object with session and task", "agent"),
    Setting("AGENT_TRACING", "`1` sends the Agents SDK's traces to OpenAI; otherwise none leave", "agent"),
    Setting(
        "HTTPS_PROXY",
        "the way to the model's server, as elsewhere, with `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE` "
        "and `SSL_CERT_DIR`; what it does not need may be wrong, and the local model needs none",
        "agent",
    ),
    Setting(
        "FLAME_ENDPOINT",
        "a Flame cluster; without it and `~/.flame/flame.yaml`, the embedded engine",
        "flame",
        "endpoint",
        "--endpoint",
        "URL",
        "The Flame to use, such as `http://127.0.0.1:8080`. Without it: `FLAME_ENDPOINT`, then "
        "`~/.flame/flame.yaml`, then the embedded engine, which starts by itself.",
    ),
    Setting(
        "FLAME_CACHE_ENDPOINT",
        "the cluster's object cache (port 9090 beside it)",
        "flame",
        "cache_endpoint",
        "--cache-endpoint",
        "URL",
        "Its object cache, such as `grpc://127.0.0.1:9090`. Without it: `FLAME_CACHE_ENDPOINT`, then "
        "`~/.flame/flame.yaml`, then port 9090 beside the frontend.",
    ),
    Setting(
        "FLAME_CA_FILE",
        "the authority to trust for both, in PEM",
        "flame",
        "ca_file",
        "--ca-file",
        "FILE",
        "The authority to trust for both, in PEM. Without it: `FLAME_CA_FILE`, then `~/.flame/flame.yaml`, "
        "then the public ones.",
    ),
    Setting(
        "FLAME_AGENT_TIMEOUT",
        f"how many seconds the client waits for an answer ({TIMEOUT:g})",
        "client",
        "timeout",
        "--timeout",
        "SECONDS",
        f"How long to wait for the answer; otherwise `FLAME_AGENT_TIMEOUT`, or {TIMEOUT:g}.",
        kinds=(int, float),
        complaint=_seconds,
    ),
    Setting(
        "FLAME_AGENT_STREAM",
        "`0`: show the answer when it is complete",
        "client",
        "stream",
        "--no-stream",
        None,
        "Print the answer when it is complete, as `FLAME_AGENT_STREAM=0`; otherwise a terminal shows it come.",
        kinds=(bool,),
        complaint=_switch,
    ),
    Setting(
        "LOCALFLAME_HOME", "where the embedded engine keeps everything (`.localflame` beside `client.py`)", "engine"
    ),
)
"""All of them."""

NAMED: dict[str, Setting] = {setting.name: setting for setting in SETTINGS if setting.name}
"""Those that have a name: a line of the settings file and an option each."""
