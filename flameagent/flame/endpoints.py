"""Where Flame is: the environment, or `~/.flame/flame.yaml`, in that order.

Reads the same variables and the same file as flamepy 0.6.0, so that one configuration serves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flameagent import files
from flameagent.flame.documents import load, shortened
from flameagent.flame.errors import Misconfigured

CACHE_PORT = 9090

VARIABLES = ("FLAME_ENDPOINT", "FLAME_CACHE_ENDPOINT", "FLAME_CA_FILE")
"""Where the frontend and the object cache are, and whom to trust."""


@dataclass(frozen=True)
class Endpoints:
    """A Flame's frontend and object cache, and who said so.

    `frontend` is `http(s)://host:port`, `cache` is `grpc(s)://host:port`; `ca_file` has the authorities
    to trust for both where TLS is used, `cache_ca_file` those for the cache where they are others; None: the public
    ones. `source`, `cache_source` and `ca_source` name the option, variable or file; a cache without one is looked
    for beside the frontend. A Unix socket, where there is one, is a shorter way to the same; `writes_socket` and
    `file` are the ways to an embedded engine's cache for frames, and to what it has answered.
    """

    frontend: str
    cache: str
    ca_file: str | None = None
    source: str = ""
    cache_ca_file: str | None = None
    cache_source: str = ""
    ca_source: str = ""
    frontend_socket: Path | None = None
    cache_socket: Path | None = None
    writes_socket: Path | None = None
    file: Path | None = None

    @classmethod
    def of_instance(cls, environ: Mapping[str, str], cache: str) -> Endpoints:
        """Those that Flame gives an instance; `cache` is where the cache believes to be, unless that is given."""
        ways = (environ.get(f"LOCALFLAME_{name}") for name in ("CACHE_SOCKET", "WRITES_SOCKET", "FILE"))
        cache_socket, writes_socket, file = (Path(way) if way else None for way in ways)
        return cls(
            frontend=environ.get("FLAME_ENDPOINT", ""),
            cache=environ.get("FLAME_CACHE_ENDPOINT") or cache,
            ca_file=environ.get("FLAME_CA_FILE"),
            cache_socket=cache_socket,
            writes_socket=writes_socket,
            file=file,
        )


def resolve(
    environ: Mapping[str, str], *, sources: Mapping[str, str] | None = None, home: Path | None = None
) -> Endpoints | None:
    """The Flame that is configured, or None where nothing names one.

    `sources` says of variables who else set them: an option, another file. Raises `Misconfigured` for a configuration
    that cannot be read or an endpoint that is not a URL, naming who set it.
    """
    sources = sources or {}
    named_by = {variable: sources.get(variable, variable) for variable in VARIABLES}
    endpoint, named_cache, named_ca = (environ.get(variable, "").strip() or None for variable in VARIABLES)
    home = home or _home()
    file = home / ".flame" / "flame.yaml" if home else None
    context: dict[str, Any] = {}
    if file:
        try:
            context = _current_context(file)
        except Misconfigured:
            if not endpoint:
                raise
    cluster, cache = _section(context, "cluster"), _section(context, "cache")
    source = named_by["FLAME_ENDPOINT"] if endpoint else str(file)
    if not (endpoint := endpoint or cluster.get("endpoint")):
        return None
    url = _checked(str(endpoint), source, "http://127.0.0.1:8080")
    # The file's cache belongs to the file's cluster, not to another one named by hand.
    if named_cache:
        cache_source = named_by["FLAME_CACHE_ENDPOINT"]
        where = _checked(named_cache, cache_source, "grpc://127.0.0.1:9090")
    elif source == str(file) and (beside := cache.get("endpoint")):
        cache_source = source
        where = _checked(str(beside), f"The cache in {file}", "grpc://127.0.0.1:9090")
    else:
        cache_source, where = "", _cache_beside(url)
    ca_file = named_ca or _section(cluster, "tls").get("ca_file")
    cache_ca_file = None if named_ca else _section(cache, "tls").get("ca_file")
    ca_source = named_by["FLAME_CA_FILE"] if named_ca else str(file) if ca_file or cache_ca_file else ""
    return Endpoints(
        url, where, ca_file and str(ca_file), source, cache_ca_file and str(cache_ca_file), cache_source, ca_source
    )


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
        raise Misconfigured(f"{source} is not an endpoint: {shortened(url)}. It looks like {example}.")
    return whole


def _cache_beside(frontend: str) -> str:
    parts = urlsplit(frontend)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{'grpcs' if parts.scheme == 'https' else 'grpc'}://{host}:{CACHE_PORT}"


def _home() -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and no user of this number
        return None
    return home if home.is_absolute() else None


def _current_context(file: Path) -> dict[str, Any]:
    """The context that the file says is the current one; nothing where there is no file. Raises `Misconfigured`."""
    try:
        text = files.read(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{file} cannot be read: {files.why(error)}.") from error
    try:
        config = load(text)
    except ValueError as error:
        raise Misconfigured(f"{file} cannot be read as YAML{error}.") from error
    config = config if isinstance(config, dict) else {}
    current = config.get("current-context")
    contexts = config.get("contexts")
    for context in contexts if isinstance(contexts, list) else []:
        if isinstance(context, dict) and isinstance(current, str) and context.get("name") == current:
            return context
    raise Misconfigured(f"{file} has no context named {shortened(current)} (current-context).")


def _section(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    section = mapping.get(name)
    return section if isinstance(section, dict) else {}
