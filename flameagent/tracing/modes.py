"""What `AGENT_TRACING` asks for, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from flameagent.tracing import SETTING

OPENAI, OTLP, FILE = "1", "otlp", "file"
_OFF = ("", "0", "off")
_PROTOCOL = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def chosen(environ: Mapping[str, str]) -> frozenset[str]:
    """Where spans go, of `OTLP` and `FILE`; nowhere where the setting makes no sense."""
    named = _named(environ)
    if complaint(environ.get(SETTING, "")):
        return frozenset()
    return frozenset(named) & {OTLP, FILE}


def to_openai(environ: Mapping[str, str]) -> bool:
    """True where the Agents SDK's own traces go to OpenAI."""
    return OPENAI in _named(environ) and not complaint(environ.get(SETTING, ""))


def complaint(text: str) -> str:
    """What is wrong with the setting, as `Setting.complaint` has it; "" where nothing is."""
    wrong = [each for each in _split(text) if each not in (*_OFF, OPENAI, OTLP, FILE)]
    return f"is 1, otlp, file or several of them with commas, or off, not {text!r}" if wrong else ""


def trouble(environ: Mapping[str, str]) -> str:
    """Why nothing is traced, or not all that is asked for, as a sentence; "" where nothing is wrong."""
    if wrong := complaint(environ.get(SETTING, "")):
        return f"{SETTING} {wrong}: nothing is traced."
    if OTLP not in chosen(environ):
        return ""
    if protocol(environ) not in _PACKAGES:
        return f"{_PROTOCOL[1]} is grpc or http/protobuf, not {protocol(environ)!r}: no traces are sent."
    package, extra = _PACKAGES[protocol(environ)]
    return "" if _is_there(package) else f"{SETTING}=otlp needs {extra}: no traces are sent."


def protocol(environ: Mapping[str, str]) -> str:
    """How OTLP is spoken: `grpc`, unless the variables of OpenTelemetry say otherwise."""
    said = (environ.get(name, "").strip() for name in _PROTOCOL)
    return next(filter(None, said), "grpc")


_PACKAGES = {
    "grpc": ("opentelemetry.exporter.otlp.proto.grpc", "the extra `otel`: pip install 'flame-openai-agent[otel]'"),
    "http/protobuf": (
        "opentelemetry.exporter.otlp.proto.http",
        "the extra `otel` and, for http/protobuf, the package opentelemetry-exporter-otlp-proto-http",
    ),
}


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None and find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


def _named(environ: Mapping[str, str]) -> list[str]:
    return _split(environ.get(SETTING, ""))


def _split(text: str) -> list[str]:
    return [each.strip().lower() for each in text.split(",")]
