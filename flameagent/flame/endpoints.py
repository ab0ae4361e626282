"""Where Flame is: an option, the environment, or `~/.flame/flame.yaml`, in that order.

Reads the same variables and the same file as flamepy 0.6.0, so that one configuration serves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flameagent.flame.errors import FlameError

CACHE_PORT = 9090


@dataclass(frozen=True)
class Endpoints:
    """A Flame's frontend and object cache, and who said so.

    `frontend` is `http(s)://host:port`, `cache` is `grpc(s)://host:port`; `ca_file` has the authorities
    to trust for both where TLS is used, `cache_ca_file` those for the cache where they are others; None: the public
    ones. `source` names the option, variable or file.
    """

    frontend: str
    cache: str
    ca_file: str | None = None
    source: str = ""
    cache_ca_file: str | None = None


def resolve(environ: Mapping[str, str], *, endpoint: str | None = None, home: Path | None = None) -> Endpoints | None:
    """The Flame that is configured, or None where nothing names one.

    Raises `FlameError` for a configuration that cannot be read or an endpoint that is not a URL.
    """
    file = (home or Path.home()) / ".flame" / "flame.yaml"
    context: dict[str, Any] = {}
    if file.exists():
        try:
            context = _current_context(file)
        except FlameError:
            if not (endpoint or environ.get("FLAME_ENDPOINT")):
                raise
    cluster, cache = _section(context, "cluster"), _section(context, "cache")
    named_ca = environ.get("FLAME_CA_FILE")
    ca_file = named_ca or _section(cluster, "tls").get("ca_file")
    cache_ca_file = None if named_ca else _section(cache, "tls").get("ca_file")

    for value, source in (
        (endpoint, "--endpoint"),
        (environ.get("FLAME_ENDPOINT"), "FLAME_ENDPOINT"),
        (cluster.get("endpoint"), str(file)),
    ):
        if not value:
            continue
        url = _checked(str(value), source, "http://127.0.0.1:8080")
        # The file's cache belongs to the file's cluster, not to another one named by hand.
        beside = cache.get("endpoint") if source == str(file) else None
        if named := environ.get("FLAME_CACHE_ENDPOINT"):
            where = _checked(named, "FLAME_CACHE_ENDPOINT", "grpc://127.0.0.1:9090")
        elif beside:
            where = _checked(str(beside), f"The cache in {file}", "grpc://127.0.0.1:9090")
        else:
            where = _cache_beside(url)
        return Endpoints(url, where, ca_file and str(ca_file), source, cache_ca_file and str(cache_ca_file))
    return None


def address(url: str, default_port: int) -> tuple[str, bool]:
    """`host:port` of an endpoint and whether it uses TLS."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    host = parts.hostname or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port or default_port}", parts.scheme in ("https", "grpcs", "grpc+tls")


def _checked(url: str, source: str, example: str) -> str:
    scheme = urlsplit(example).scheme
    schemes = ("http", "https") if scheme == "http" else ("grpc", "grpcs", "grpc+tcp", "grpc+tls", "http", "https")
    whole = url if "//" in url else f"{scheme}://{url}"
    try:
        parts = urlsplit(whole)
        valid = bool(parts.hostname) and parts.scheme in schemes and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise FlameError(f"{source} is not an endpoint: {url!r}. It looks like {example}.")
    return whole


def _cache_beside(frontend: str) -> str:
    parts = urlsplit(frontend)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{'grpcs' if parts.scheme == 'https' else 'grpc'}://{host}:{CACHE_PORT}"


def _current_context(file: Path) -> dict[str, Any]:
    import yaml  # only where there is a file to read

    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FlameError(f"{file} cannot be read as YAML: {str(error).splitlines()[0]}.") from error
    config = config if isinstance(config, dict) else {}
    current = config.get("current-context")
    contexts = config.get("contexts")
    for context in contexts if isinstance(contexts, list) else []:
        if isinstance(context, dict) and context.get("name") == current:
            return context
    raise FlameError(f"{file} has no context named {current!r} (current-context).")


def _section(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    section = mapping.get(name)
    return section if isinstance(section, dict) else {}
