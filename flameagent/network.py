"""The route to a server by HTTP: the proxy and the certificates that environment variables name.

Reads the variables that httpx2 2.16.2 reads. httpx2 looks at all of them when a client is made and fails with the
first that is wrong; here those count that this server needs: no proxy of another scheme, none that `NO_PROXY` rules
out, and certificates only for TLS. Promises that what is wrong is named with its variable and its value, without the
password that a proxy's URL may hold.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from flameagent.model_choice import ModelError

if TYPE_CHECKING:
    import ssl

_PORTS = {"http": 80, "https": 443}
_PROXIES = ("http", "https", "socks5", "socks5h")
_HOST = re.compile(r"(?a:[\w-]+(\.[\w-]+)*\.?|[0-9a-f:.]+)")
_CREDENTIALS = re.compile(r"^(\w[\w+.-]*://)?.*@", re.DOTALL)
_SYSTEM = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
"""Where httpx2 looks for the system's authorities, if they are not where OpenSSL was built to have them."""
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # how OpenSSL looks for a certificate in a folder


@dataclass(frozen=True)
class Route:
    """The proxy and the certificates by which a server is reached.

    `proxy` is a URL. Certificates are those in `ca_file`, a PEM file, or in `ca_path`, folders as OpenSSL reads them;
    without either, the system's. `variables` are those that say so, with their values, for people.
    """

    proxy: str | None = None
    ca_file: str | None = None
    ca_path: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def route_to(url: str, environ: Mapping[str, str]) -> Route:
    """Return the route to the server at this URL.

    Raises `ModelError` where a variable that it needs makes no sense.
    """
    proxy, variables, tls = None, {}, urlsplit(url).scheme == "https"
    if (found := _proxy(url, environ)) is not None:
        variable, value = found
        proxy = _usable(variable, value)
        variables[variable] = _shown(value)
        tls = tls or proxy.startswith("https:")
    if not tls:
        return Route(proxy, variables=variables)
    if ca_file := environ.get("SSL_CERT_FILE"):
        _check_file(ca_file)
        return Route(proxy, ca_file=ca_file, variables=variables | {"SSL_CERT_FILE": ca_file})
    if ca_path := environ.get("SSL_CERT_DIR"):
        _check_folders(ca_path)
        return Route(proxy, ca_path=ca_path, variables=variables | {"SSL_CERT_DIR": ca_path})
    return Route(proxy, variables=variables)


def client_options(url: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of an httpx2 client for the server at this URL, which then reads nothing of the environment.

    Raises `ModelError` where there is no route to it.
    """
    import httpx2  # a question to an engine needs none

    found = route_to(url, environ)
    context = _context(found.ca_file, found.ca_path)
    proxy = None
    if found.proxy:
        proxy = httpx2.Proxy(found.proxy, ssl_context=context if found.proxy.startswith("https:") else None)
    return {"trust_env": False, "proxy": proxy, "verify": context}


def _context(ca_file: str | None, ca_path: str | None) -> ssl.SSLContext:
    """Return what trusts these authorities, or the system's. To read them takes longer than a turn does, so they are
    read once, and again where they have changed; copies of this process share them."""
    import ssl

    if ca_file or ca_path:
        places = [ca_file, *(ca_path or "").split(":")]
    else:
        system = ssl.get_default_verify_paths()
        places = [system.openssl_cafile, system.openssl_capath, *_SYSTEM]
    return _read_context(ca_file, ca_path, tuple(map(_stamp, places)))


@lru_cache(maxsize=4)
def _read_context(ca_file: str | None, ca_path: str | None, state: object) -> ssl.SSLContext:
    if ca_file or ca_path:
        import ssl

        return ssl.create_default_context(cafile=ca_file, capath=ca_path)
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)


def _stamp(place: str | None) -> tuple[int, ...]:
    if not place:
        return ()
    try:
        found = Path(place).stat()
    except (OSError, ValueError):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def find_mistake(environ: Mapping[str, str]) -> str:
    """Say what is wrong with any of the variables, for whoever makes a client of their own; "" where nothing is."""
    try:
        for variable, value in _proxies(environ).values():
            _usable(variable, value)
        if ca_file := environ.get("SSL_CERT_FILE"):
            _check_file(ca_file)
    except ModelError as error:
        return str(error)
    return ""


def _proxy(url: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the variable that names the proxy for this URL, and its value."""
    parts, proxies = urlsplit(url), _proxies(environ)
    found = proxies.get(parts.scheme) or proxies.get("all")
    if found is None:
        return None
    _, excepted = _variables(environ).get("no", ("", ""))
    return None if any(_rules_out(entry.strip(), parts) for entry in excepted.split(",")) else found


def _proxies(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    found = {scheme: named for scheme, named in _variables(environ).items() if scheme in ("http", "https", "all")}
    if not found and sys.platform == "darwin":
        from urllib.request import getproxies  # knows the system's settings

        found = {scheme: ("the system's proxy settings", value) for scheme, value in getproxies().items()}
    return found


def _variables(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the variables by scheme, and `no`, each with its name and value.

    One in lower case wins, and rules the other out where it is empty, as for Python.
    """
    found: dict[str, tuple[str, str]] = {}
    named = [(name, value.strip()) for name, value in environ.items() if name.lower().endswith("_proxy")]
    for name, value in sorted(named, key=lambda each: each[0].islower()):
        scheme = name[: -len("_proxy")].lower()
        if value:
            found[scheme] = name, value
        elif name.islower():
            found.pop(scheme, None)
    return found


def _usable(variable: str, value: str) -> str:
    """Return the proxy's URL. Raises `ModelError`."""
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _PROXIES and bool(_HOST.fullmatch(parts.hostname or "")) and parts.port != 0
    except ValueError:  # a port that is not a number, brackets that do not close
        valid = False
    if not valid:
        raise ModelError(
            f"{variable} is {_shown(value)}, and a proxy looks like http://host:port, https://host:port or "
            "socks5://host:port. Set it right, or name the server in NO_PROXY."
        )
    if parts.scheme.startswith("socks") and find_spec("socksio") is None:
        raise ModelError(
            f"{variable} is {_shown(value)}, and a SOCKS proxy needs the package socksio, which is not installed: "
            "uv pip install socksio. Or name the server in NO_PROXY."
        )
    return url


def _rules_out(entry: str, server: SplitResult) -> bool:
    """True where an entry of `NO_PROXY` names this server: `*`, a domain with all in it, an address, a network.

    `.example.com` and `*.example.com` leave out example.com itself, and `http://example.com` what is in it. A port
    may stand with it.
    """
    scheme, separator, rest = entry.rpartition("://")
    if not rest or (separator and scheme not in ("all", server.scheme)):
        return False
    if rest == "*":
        return True
    host = (server.hostname or "").rstrip(".")
    with suppress(ValueError):
        network = ipaddress.ip_network(rest.strip("[]"), strict=False)
        try:
            return ipaddress.ip_address(host) in network
        except ValueError:
            return False
    try:
        named = urlsplit(f"//{rest}")
        port, name = named.port, (named.hostname or "").rstrip(".")
    except ValueError:
        return False
    if port not in (None, server.port or _PORTS.get(server.scheme)):
        return False
    name = name.removeprefix("*") if name.startswith("*.") else name
    if name.startswith("."):
        return host.endswith(name)
    return host == name or (not separator and host.endswith(f".{name}"))


def _shown(value: str) -> str:
    return _CREDENTIALS.sub(r"\1***@", value)


def _check_file(file: str) -> None:
    import ssl

    try:
        _context(file, None)
    except ssl.SSLError as error:
        raise ModelError(f"SSL_CERT_FILE is {file}, which holds no certificate in PEM. {_MEND}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"SSL_CERT_FILE is {file}, which cannot be read: {reason}. {_MEND}") from error


def _check_folders(path: str) -> None:
    reason = "in which there is no certificate under the name that `openssl rehash` gives it"
    for folder in path.split(":"):
        try:
            if any(_HASHED.fullmatch(entry.name) for entry in Path(folder).iterdir()):
                return
        except (OSError, ValueError) as error:
            reason = f"which cannot be read: {error.strerror if isinstance(error, OSError) else error}"
    raise ModelError(f"SSL_CERT_DIR is {path}, {reason}. {_MEND}")


_MEND = "Name the file or folder of the authorities to trust, or unset it: then the system's count."
