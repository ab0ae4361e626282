"""Signed tokens (JWT): who asks, as a proxy or a chat program says it that the settings name.

Promises that a token counts only when it is signed by a key of the settings, in a way that the settings allow, is of
the issuer and for the audience that they name, and ends at a time that has not come.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from flameagent import files
from flameagent.client.errors import ClientError, UsageError
from flameagent.client.question import name_of

if TYPE_CHECKING:
    from jwt import PyJWK

_OF_KEYS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_OF_SECRETS = ("HS256", "HS384", "HS512")
_FRESH = 300.0  # seconds for which keys are not read again
_PAUSE = 30.0  # seconds between two looks for a key that is not known
_SHORTEST = 32
_LONGEST = 200
_LONGEST_TOKEN = 16_384
_LARGEST = 1_000_000  # bytes of a JWKS
_SKEW = 30.0  # seconds by which clocks may differ


class NotSigned(Exception):
    """A token that does not count; the message is a sentence for whoever has sent it."""


class Signed:
    """The check of signed tokens, as the settings have it. Blocking; for any number of threads."""

    def __init__(
        self, issuer: str, audience: str, algorithms: tuple[str, ...], claim: str, header: str, secret: str, jwks: str
    ) -> None:
        self.header = header
        self._issuer = issuer
        self._audience = audience
        self._algorithms = algorithms
        self._claim = claim
        self._secret = secret
        self._keys = _Keys(jwks) if jwks else None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Signed | None:
        """As the variables have it; None where they name no key. Raises `UsageError`."""

        def value(name: str) -> str:
            return environ.get(f"FLAME_AGENT_JWT_{name}", "").strip()

        secret, jwks, issuer = value("SECRET"), value("JWKS"), value("ISSUER")
        if not (secret or jwks):
            return None
        try:
            import jwt  # noqa: F401
        except ImportError as error:
            raise UsageError(f"There is no module {error.name}: install flame-openai-agent[serve].") from error
        if secret and jwks:
            raise UsageError("FLAME_AGENT_JWT_SECRET and FLAME_AGENT_JWT_JWKS are both set: one of them counts.")
        if secret and len(secret) < _SHORTEST:
            raise UsageError(f"FLAME_AGENT_JWT_SECRET has {_SHORTEST} characters at least: shorter ones are guessed.")
        if not issuer:
            raise UsageError("FLAME_AGENT_JWT_ISSUER is not set: whose tokens count?")
        possible = _OF_SECRETS if secret else _OF_KEYS
        given = value("ALGORITHMS") or ("HS256" if secret else "RS256,ES256,EdDSA")
        algorithms = tuple(each.strip() for each in given.split(",") if each.strip())
        if not algorithms or (wrong := [each for each in algorithms if each not in possible]):
            named = wrong[0] if algorithms else given
            raise UsageError(f"FLAME_AGENT_JWT_ALGORITHMS has {named!r}; possible are {', '.join(possible)}.")
        made = cls(issuer, value("AUDIENCE"), algorithms, value("CLAIM") or "sub", value("HEADER"), secret, jwks)
        if made._keys is not None:
            made._keys.read()
        return made

    def user(self, token: str) -> str:
        """Whose token it is. Raises `NotSigned`; `ClientError` where the keys cannot be read."""
        import jwt

        if len(token) > _LONGEST_TOKEN:
            raise NotSigned("The signed token is too long.")
        try:
            head = jwt.get_unverified_header(token)
            claims = jwt.decode(
                token,
                self._secret or self._key(head),
                algorithms=list(self._algorithms),
                audience=self._audience or None,
                issuer=self._issuer,
                leeway=_SKEW,
                options={"require": ["exp", "iss"], "verify_aud": bool(self._audience)},
            )
        except jwt.ExpiredSignatureError:
            raise NotSigned("The time of the signed token is over.") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise NotSigned(
                f"The signed token does not count: {_REASONS.get(type(error).__name__, 'it is none')}."
            ) from (None)
        name = claims.get(self._claim)
        user = name_of(name) if isinstance(name, str) else ""
        if not (0 < len(user) <= _LONGEST and user.isprintable()):
            raise NotSigned("The signed token names no user.")
        return user

    def _key(self, head: Mapping[str, Any]) -> PyJWK:
        assert self._keys is not None
        return self._keys.find(str(head.get("kid") or ""))


_REASONS = {
    "InvalidSignatureError": "it is not signed by a key that is known",
    "InvalidKeyError": "it is not signed by a key that is known",
    "InvalidAlgorithmError": "it is signed in a way that is not allowed",
    "InvalidIssuerError": "it is of another issuer",
    "InvalidAudienceError": "it is for somebody else",
    "MissingRequiredClaimError": "it has no end, issuer or audience",
    "ImmatureSignatureError": "its time has not come",
}


class _Keys:
    """The keys of a JWKS, from a file or a URL; read again now and then, and when a token names an unknown one."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._keys: dict[str, PyJWK] = {}
        self._read_at = float("-inf")

    def find(self, name: str) -> PyJWK:
        """The key of that name, or the only one for a token that names none. Raises `NotSigned`."""
        with self._lock:
            age = time.monotonic() - self._read_at
            if age > _FRESH or (name and name not in self._keys and age > _PAUSE):
                try:
                    self._take()
                except ClientError:
                    if not self._keys or age > 10 * _FRESH:  # until then those that were known count on
                        raise
            if not name and len(self._keys) == 1:
                return next(iter(self._keys.values()))
            if name not in self._keys:
                raise NotSigned("The signed token names a key that is not known.")
            return self._keys[name]

    def read(self) -> None:
        """Read them now. Raises `UsageError` for a file that has none; a URL may answer later."""
        try:
            with self._lock:
                self._take()
        except ClientError as error:
            if not self._place.startswith(("http://", "https://")):
                raise UsageError(str(error)) from error

    def _take(self) -> None:
        from jwt import PyJWKSet, PyJWTError

        try:
            found = PyJWKSet.from_dict(json.loads(self._content()))
        except (
            OSError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
            PyJWTError,
            httpx2.HTTPError,
        ) as error:
            reason = files.why(error) if isinstance(error, OSError) else str(error) or type(error).__name__
            raise ClientError(
                f"The keys at FLAME_AGENT_JWT_JWKS ({self._place}) cannot be read: {reason}."
            ) from error
        self._keys = {
            key.key_id or "": key
            for key in found.keys
            if key.public_key_use in (None, "sig") and not key.algorithm_name.startswith("HS")
        }
        self._read_at = time.monotonic()

    def _content(self) -> bytes:
        if not self._place.startswith(("http://", "https://")):
            return Path(self._place).read_bytes()
        with httpx2.stream("GET", self._place, timeout=5.0, follow_redirects=False) as response:
            response.raise_for_status()
            content = b""
            for part in response.iter_bytes():
                content += part
                if len(content) > _LARGEST:
                    raise ValueError("there are too many")
            return content
