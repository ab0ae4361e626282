"""The settings: the one table of what can be set, under which names, and what each may be.

From it come the options of the command line, the settings file, what `status` shows, and the tables in README.md and
docs/terminal.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from flameagent.flame.resources import Resources
from flameagent.model_choice import OPENAI_URL, is_address, is_window
from flameagent.tracing import modes

TIMEOUT = 330.0
"""Seconds that a client waits for an answer: somewhat more than the agent gives itself."""


@dataclass(frozen=True)
class Setting:
    """A variable; with a `name` it is a line of the settings file, too, and an option of the command line.

    `about` is for the list of variables, `help` and `metavar` are the option's. `kinds` are what the file may have.
    `complaint` says what is wrong with a text, as a sentence goes on behind the name of who set it; "" where nothing
    is. `of` is who reads it: the agent, for its `model` or otherwise, the way to a `flame` cluster, the `client`, the
    `engine`, or the `server` (`serve`).
    """

    variable: str
    about: str
    of: Literal["model", "agent", "flame", "client", "engine", "server"]
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
    return _above_zero(text, "a number of seconds")


def _switch(text: str) -> str:
    return "" if text in ("0", "1") else f"is 1 or 0, not {text!r}"


def _tokens(text: str) -> str:
    is_number = text.isascii() and text.isdecimal() and len(text) < 16 and int(text) > 0
    return "" if is_number else f"is a whole number of tokens above 0, not {text!r}"


def _resources(text: str) -> str:
    try:
        Resources.parse(text)
    except ValueError as error:
        return str(error)
    return ""


def _money(text: str) -> str:
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    return "" if math.isfinite(amount) and amount > 0 else f"is a number above 0, not {text!r}"


def megabytes(text: str) -> str:
    """What is wrong with a number of megabytes, as a `Setting.complaint`."""
    return _above_zero(text, "a number of MB")


def _above_zero(text: str, what: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return f"is {what}, not {text!r}"
    return "" if math.isfinite(number) and number > 0 else f"is {what} above 0"


ATTACHMENT = ("FLAME_AGENT_ATTACHMENT_MB", 20.0)
"""The variable for what one attachment may have, and what that is without it, in MB."""
ATTACHMENTS = ("FLAME_AGENT_ATTACHMENTS_MB", 50.0)
"""The same for all attachments of a question together."""

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
    Setting(
        "AGENT_TOKENS_A_TURN",
        "how many tokens a turn may use, of all its calls of models together",
        "model",
        "tokens_a_turn",
        kinds=(int,),
        complaint=_tokens,
    ),
    Setting(
        "AGENT_MONEY_A_TURN",
        "how much money, by `FLAME_AGENT_PRICES` (the table `prices` of the settings file)",
        "model",
        "money_a_turn",
        kinds=(int, float),
        complaint=_money,
    ),
    Setting(
        "AGENT_TOKENS_A_SESSION",
        "how many tokens a session may use, with turns that were taken back and with summaries",
        "model",
        "tokens_a_session",
        kinds=(int,),
        complaint=_tokens,
    ),
    Setting(
        "AGENT_MONEY_A_SESSION", "how much money", "model", "money_a_session", kinds=(int, float), complaint=_money
    ),
    Setting("AGENT_MEMORY", "`off`: nothing is remembered of a person beyond a session; otherwise it is", "agent"),
    Setting(
        "AGENT_EMBEDDINGS",
        "`MODEL` or `MODEL@URL`: what is remembered is found by meaning, too, with a model of embeddings and its "
        "OpenAI-compatible server (the model's); otherwise by words",
        "agent",
    ),
    Setting("AGENT_EMBEDDINGS_API_KEY", "the key of that server, where it is not the model's", "agent"),
    Setting("AGENT_TIMEOUT", "how many seconds a turn may take (300)", "agent"),
    Setting("AGENT_MAX_TURNS", "how many times a turn may ask the model, unless its entrypoint says (10)", "agent"),
    Setting("AGENT_SUMMARY", "`off`: what leaves the window is not summarized for the model", "agent"),
    Setting("AGENT_SUMMARY_PROMPT", "how it is summarized: instructions in place of the built-in ones", "agent"),
    Setting("AGENT_FORK", "`off`: each conversation's process imports the agent by itself", "agent"),
    Setting("AGENT_LOG", "`json` makes each line of an instance's log a JSON object with session and task", "agent"),
    Setting(
        "AGENT_TRACING",
        "where traces of turns go, with commas: `otlp` (OpenTelemetry, as its variables `OTEL_…` say), `file` (for "
        "`trace`), `1` (the Agents SDK's own, to OpenAI); otherwise none are made",
        "agent",
        complaint=modes.complaint,
    ),
    Setting("AGENT_TRACE_CONTENT", "`1`: texts of messages and calls are in traces, too", "agent"),
    Setting(
        "AGENT_METRICS",
        "`otlp`: metrics of turns, models and processes go to a collector, as OpenTelemetry's variables `OTEL_…` "
        "say; otherwise none are made",
        "agent",
    ),
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
        "FLAME_AGENT_RESREQ",
        "what a new session asks a cluster for, such as `cpu=0,mem=64m`; without it the cluster's own `resreq`",
        "client",
        "resreq",
        complaint=_resources,
    ),
    Setting(
        "FLAME_AGENT_APP",
        "which agent is asked: `MODULE:OBJECT`, or the name of an application; without it the project's",
        "client",
        "app",
        "--app",
        "MODULE:OBJECT|NAME",
        "The agent to ask: an object such as `desk.agents:desk`, or the name of an application. Without it: "
        "`FLAME_AGENT_APP`, then the first one of the nearest `openai-agent.yaml` above this folder.",
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
        "FLAME_AGENT_USER",
        "who asks: recorded with the turn, and told to tools (the user of the operating system; on a cluster nobody)",
        "client",
        "user",
        "--user",
        "NAME",
        "Who asks; otherwise `FLAME_AGENT_USER`, or on the embedded engine the user of the operating system.",
    ),
    Setting(ATTACHMENT[0], f"how many MB an attachment may have ({ATTACHMENT[1]:g})", "client", complaint=megabytes),
    Setting(
        ATTACHMENTS[0],
        f"how many MB the attachments of a question may have together ({ATTACHMENTS[1]:g})",
        "client",
        complaint=megabytes,
    ),
    Setting(
        "LOCALFLAME_HOME",
        "where the embedded engine keeps everything (`.localflame` here, else the user's state folder)",
        "engine",
    ),
    Setting(
        "FLAME_AGENT_JWT_JWKS",
        "the keys by which a signed token (JWT) is known: the URL of a JWKS, or a file with one",
        "server",
    ),
    Setting("FLAME_AGENT_JWT_SECRET", "or the secret that it is signed with, of 32 characters at least", "server"),
    Setting("FLAME_AGENT_JWT_ISSUER", "its `iss`, as it has to be; needed", "server"),
    Setting("FLAME_AGENT_JWT_AUDIENCE", "its `aud`, as it has to be", "server"),
    Setting(
        "FLAME_AGENT_JWT_ALGORITHMS",
        "how it may be signed, with commas (`RS256,ES256,EdDSA`; with a secret `HS256`)",
        "server",
    ),
    Setting("FLAME_AGENT_JWT_CLAIM", "the claim that names the user (`sub`)", "server"),
    Setting(
        "FLAME_AGENT_JWT_HEADER",
        "the header that it comes in, where that is not `Authorization`, as in `X-OpenWebUI-User-Jwt`",
        "server",
    ),
    Setting(
        "FLAME_AGENT_TRUSTED_PROXY",
        "addresses and networks, with commas, of proxies that say by headers from where and how somebody comes "
        "(`X-Forwarded-For`, `X-Forwarded-Proto`)",
        "server",
    ),
    Setting(
        "FLAME_AGENT_TRUSTED_HEADER",
        "the header in which such a proxy, and nobody else, says who asks, as in `X-Forwarded-User`",
        "server",
    ),
    Setting(
        "FLAME_AGENT_REQUESTS_A_MINUTE", "how many requests a user may make in a minute, of each server", "server"
    ),
    Setting("FLAME_AGENT_TURNS_AT_ONCE", "how many turns of a user may run or wait to run at once", "server"),
    Setting("FLAME_AGENT_ALL_TURNS_AT_ONCE", "how many of all users together", "server"),
    Setting("FLAME_AGENT_TOKENS_A_DAY", "how many tokens a user may use in a day (UTC)", "server"),
    Setting("FLAME_AGENT_MONEY_A_DAY", "how much money, by the table `prices` of the settings file", "server"),
    Setting(
        "FLAME_AGENT_PRICES",
        "that table as JSON: what a million tokens of a model cost (`input`, `cached`, `output`)",
        "server",
        "prices",
        kinds=(dict,),
    ),
)
"""All of them."""

NAMED: dict[str, Setting] = {setting.name: setting for setting in SETTINGS if setting.name}
"""Those that have a name: a line of the settings file and an option each."""
