"""TLS on the way to Flame: the authorities to trust, and why two ends do not agree.

gRPC and Arrow Flight say of most TLS errors that nobody answers. `disagreement` asks the endpoint itself, with
Python's own TLS, so that the sentence names what to change.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from flameagent import files
from flameagent.flame.endpoints import address
from flameagent.flame.errors import Misconfigured

_PATIENCE = 2.0
_HOW_TO_TRUST = "name its CA's file with --ca-file, or in FLAME_CA_FILE"
_PARTNERS = {"http": "https", "https": "http", "grpc": "grpcs", "grpcs": "grpc"}


def roots(ca_file: str | None, source: str = "") -> bytes | None:
    """The certificates of `ca_file`; None, without one, for the public authorities that gRPC and Arrow know.

    `source` is who named the file. Raises `Misconfigured` for a file that cannot be read or holds no certificate.
    """
    if not ca_file:
        return None
    try:
        authorities = _read(ca_file)
        # Not the connection's context: this only parses. gRPC would say later that nobody answers.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=authorities)
        return authorities.encode()
    except (ssl.SSLError, ValueError) as error:
        raise Misconfigured(f"The CA file {_named(ca_file, source)} holds no certificate in PEM.") from error
    except OSError as error:
        raise Misconfigured(f"The CA file {_named(ca_file, source)} cannot be read: {error.strerror}.") from error


def disagreement(url: str, default_port: int, ca_file: str | None, source: str = "") -> str:
    """Why the client and an endpoint that did not answer disagree on TLS: a sentence; empty when that is not it.

    Takes some seconds at most.
    """
    target, tls = address(url, default_port)
    parts = urlsplit(f"//{target}")
    host, port = parts.hostname or "", parts.port or default_port
    try:
        _handshake(host, port, _context(ca_file) if tls else _trusting())
    except ssl.SSLCertVerificationError as error:
        return _distrust(url, ca_file, source, error)
    except ssl.SSLError:
        return f"What answers at {url} does not speak TLS: write {_partner(url)}." if tls else ""
    except (OSError, ValueError):
        return ""
    if tls:
        return ""
    return f"What answers at {url} speaks TLS: write {_partner(url)}, and {_HOW_TO_TRUST}."


def _read(ca_file: str) -> str:
    """A file in PEM, without the comments' letters that Python's `ssl` does not take."""
    return files.read(Path(ca_file)).encode("ascii", "ignore").decode()


def _named(ca_file: str, source: str) -> str:
    return f"{ca_file} ({source})" if source else ca_file


def _distrust(url: str, ca_file: str | None, source: str, error: ssl.SSLCertVerificationError) -> str:
    reason = error.verify_message.rstrip(".")
    if "certificate is not valid for" in reason:
        return f"The certificate of {url} is not for this address ({reason}): use a name or address that it is for."
    if "expired" in reason or "not yet valid" in reason:
        return f"The certificate of {url} cannot be used: {reason}."
    if ca_file:
        return f"The certificate of {url} is not by the authority in the CA file {_named(ca_file, source)}: {reason}."
    return f"The certificate of {url} is by no authority that this machine trusts ({reason}): {_HOW_TO_TRUST}."


def _context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=_read(ca_file) if ca_file else None)
    context.set_alpn_protocols(["h2"])
    return context


def _trusting() -> ssl.SSLContext:
    """For the question whether the endpoint speaks TLS at all; nothing is sent."""
    context = _context(None)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _handshake(host: str, port: int, context: ssl.SSLContext) -> None:
    with (
        socket.create_connection((host, port), _PATIENCE) as connection,
        context.wrap_socket(connection, server_hostname=host),
    ):
        pass


def _partner(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{_PARTNERS[scheme.replace('+tls', 's').replace('+tcp', '')]}://{rest}"
