"""Signed tokens: which count, and that nothing else does."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from flameagent.client.errors import ClientError, UsageError
from flameagent.server import signed
from flameagent.server.signed import NotSigned, Signed

SECRET = "s" * 32
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def claims(**more: Any) -> dict[str, Any]:
    named = {"iss": "proxy", "aud": "agents", "sub": "ada", "exp": int(time.time()) + 36_000, **more}
    return {name: value for name, value in named.items() if value is not None}


def made(**variables: str) -> Signed:
    found = Signed.of({f"FLAME_AGENT_JWT_{name}": value for name, value in {"ISSUER": "proxy", **variables}.items()})
    assert found
    return found


def jwk(key: Any, name: str) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": name, "use": "sig"}  # type: ignore[attr-defined]


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [jwk(RSA, "r"), jwk(EC, "e")]}))
    return file


def test_a_token_of_the_secret_names_its_user() -> None:
    check = made(SECRET=SECRET, AUDIENCE="agents")
    assert check.user(jwt.encode(claims(), SECRET, "HS256")) == "ada"
    by_mail = made(SECRET=SECRET, CLAIM="email")
    assert by_mail.user(jwt.encode(claims(email=" Ada@Example.com "), SECRET, "HS256")) == "Ada@Example.com"


def test_a_token_of_a_key_of_the_jwks_counts(jwks: Path) -> None:
    check = made(JWKS=str(jwks))
    assert check.user(jwt.encode(claims(), RSA, "RS256", {"kid": "r"})) == "ada"
    assert check.user(jwt.encode(claims(), EC, "ES256", {"kid": "e"})) == "ada"


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (jwt.encode(claims(), "t" * 32, "HS256"), "not signed by a key that is known"),
        (jwt.encode(claims(), "s" * 48, "HS384"), "in a way that is not allowed"),
        (jwt.encode(claims(), "", "none"), "in a way that is not allowed"),
        (jwt.encode(claims(exp=int(time.time()) - 60), SECRET), "time of the signed token is over"),
        (jwt.encode(claims(exp=None), SECRET), "has no end"),
        (jwt.encode(claims(iss="other"), SECRET), "of another issuer"),
        (jwt.encode(claims(iss=None), SECRET), "has no end, issuer"),
        (jwt.encode(claims(aud="other"), SECRET), "for somebody else"),
        (jwt.encode(claims(aud=None), SECRET), "has no end, issuer or audience"),
        (jwt.encode(claims(nbf=int(time.time()) + 86_400, exp=int(time.time()) + 90_000), SECRET), "has not come"),
        (jwt.encode(claims(sub=None), SECRET), "names no user"),
        (jwt.encode(claims(sub=" "), SECRET), "names no user"),
        (jwt.encode(claims(sub="a\x1bb"), SECRET), "names no user"),
        (jwt.encode(claims(sub="a" * 201), SECRET), "names no user"),
        (jwt.encode(claims(pad="x" * 20_000), SECRET), "too long"),
        ("a.b.c", "it is none"),
        ("..", "it is none"),
        ("é.é.é", "it is none"),
    ],
)
def test_other_tokens_do_not_count(token: str, why: str) -> None:
    with pytest.raises(NotSigned, match=why):
        made(SECRET=SECRET, AUDIENCE="agents").user(token)


def test_a_public_key_is_no_secret(jwks: Path) -> None:
    check = made(JWKS=str(jwks))
    for token in (
        jwt.encode(claims(), "what everybody may read of the key", "HS256", {"kid": "r"}),
        jwt.encode(claims(), OTHER, "RS256", {"kid": "r"}),
        jwt.encode(claims(), RSA, "RS256", {"kid": "unknown"}),
        jwt.encode(claims(), RSA, "RS256"),  # of two keys
        jwt.encode(claims(), EC, "ES256", {"kid": "r"}),
    ):
        with pytest.raises(NotSigned):
            check.user(token)


def test_keys_that_change_are_read_again(jwks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = made(JWKS=str(jwks))
    jwks.write_text(json.dumps({"keys": [jwk(OTHER, "o")]}))
    token = jwt.encode(claims(), OTHER, "RS256", {"kid": "o"})
    with pytest.raises(NotSigned):  # one who makes names up has nobody read the keys all the time
        check.user(token)
    monkeypatch.setattr(signed, "_PAUSE", 0.0)
    assert check.user(token) == "ada"
    jwks.unlink()
    assert check.user(token) == "ada"


def test_keys_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        made(JWKS=str(tmp_path / "nothing.json"))
    (tmp_path / "odd.json").write_text("[]")
    with pytest.raises(UsageError, match="cannot be read"):
        made(JWKS=str(tmp_path / "odd.json"))
    away = made(JWKS="http://127.0.0.1:1/keys")  # it may come up later
    with pytest.raises(ClientError, match="cannot be read"):
        away.user(jwt.encode(claims(), RSA, "RS256", {"kid": "r"}))


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"SECRET": "short"}, "32 characters at least"),
        ({"SECRET": SECRET, "ISSUER": ""}, "ISSUER is not set"),
        ({"SECRET": SECRET, "JWKS": "keys.json"}, "both set"),
        ({"SECRET": SECRET, "ALGORITHMS": "RS256"}, "'RS256'; possible are HS256"),
        ({"JWKS": "http://127.0.0.1:1/", "ALGORITHMS": "none"}, "'none'; possible are RS256"),
        ({"JWKS": "http://127.0.0.1:1/", "ALGORITHMS": ","}, "possible are RS256"),
    ],
)
def test_settings_that_make_no_sense_are_named(variables: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        made(**variables)


def test_without_keys_nobody_signs() -> None:
    assert Signed.of({"FLAME_AGENT_JWT_ISSUER": "proxy"}) is None
