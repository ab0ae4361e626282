"""Who is let in by the word of others, and by which way: signed tokens, proxies, TLS, pages of elsewhere."""

from __future__ import annotations

import datetime
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.acceptance.program import PATIENCE, Program
from tests.acceptance.server.conftest import Served, serving

SECRET = "a secret of thirty-two characters"
ORIGIN = "https://chat.example"


def token(user: str, seconds: int = 60) -> str:
    return jwt.encode({"iss": "proxy", "sub": user, "exp": int(time.time()) + seconds}, SECRET, "HS256")


@pytest.fixture(scope="module")
def behind(embedded: Program) -> Iterator[Served]:
    """A server that a proxy on this machine is before, and whose users another program signs for."""
    program = embedded.having(
        AGENT_MEMORY="off",
        FLAME_AGENT_JWT_SECRET=SECRET,
        FLAME_AGENT_JWT_ISSUER="proxy",
        FLAME_AGENT_JWT_HEADER="X-OpenWebUI-User-Jwt",
        FLAME_AGENT_TRUSTED_PROXY="127.0.0.1",
        FLAME_AGENT_TRUSTED_HEADER="X-Forwarded-User",
    )
    with serving(program, "--root-path", "/agents", "--cors-origin", ORIGIN) as server:
        yield server


@pytest.fixture
def http(behind: Served) -> Iterator[httpx2.Client]:
    with behind.http("") as client:
        yield client


def begun(http: httpx2.Client, **headers: str) -> httpx2.Response:
    return http.post(
        "/v1/sessions", json={}, headers={name.replace("_", "-"): each for name, each in headers.items()}
    )


def test_there_is_no_token_of_the_own_where_others_say_who_comes(behind: Served) -> None:
    assert behind.token == ""


def test_a_session_is_of_whom_the_word_names(http: httpx2.Client, embedded: Program) -> None:
    for headers in (
        {"x_openwebui_user_jwt": token("grace")},
        {"x_forwarded_user": "grace"},
        {"x_openwebui_user_jwt": token("grace"), "authorization": "Bearer fa_of_the_connection"},
    ):
        made = begun(http, **headers)
        assert made.status_code in (200, 201), made.text
        assert embedded("history", made.json()["session_id"], "--json").json["owner"] == "grace"


def test_a_token_that_is_over_or_none_lets_nobody_in(http: httpx2.Client) -> None:
    for bad, why in ((token("grace", -60), "is over"), ("a.b.c", "it is none")):
        refused = begun(http, x_openwebui_user_jwt=bad)
        assert refused.status_code == 401 and why in refused.json()["error"]["message"]
    assert begun(http).status_code == 401
    assert begun(http, authorization=f"Bearer {token('grace')}").status_code == 401  # it comes in the other header


def test_a_page_of_elsewhere_cannot_use_what_the_proxy_says(http: httpx2.Client) -> None:
    assert begun(http, x_forwarded_user="grace", origin="https://evil.example").status_code == 403
    assert begun(http, x_forwarded_user="grace", sec_fetch_site="cross-site").status_code == 403


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc")
def test_the_secret_is_not_handed_on_to_the_engine_and_its_agents(own: Program) -> None:
    program = own.having(FLAME_AGENT_JWT_SECRET=SECRET, FLAME_AGENT_JWT_ISSUER="proxy")
    home = f"LOCALFLAME_HOME={own.environment['LOCALFLAME_HOME']}".encode()
    with serving(program) as server, server.http(token("grace")) as http:
        made = http.post("/v1/sessions", json={}).json()["session_id"]
        assert http.post(f"/v1/sessions/{made}/turns", json={"question": "Hi."}).status_code == 200
        found = {int(each.parent.name): _read(each) for each in Path("/proc").glob("[0-9]*/environ")}
        of_the_engine = [said for pid, said in found.items() if home in said and pid != server.process.pid]
        assert of_the_engine and not any(SECRET.encode() in said for said in of_the_engine)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has ended, or is another user's
        return b""


def test_a_path_that_the_proxy_takes_away_is_in_no_way(http: httpx2.Client) -> None:
    assert http.get("/healthz").status_code == 200
    moved = http.get("/login?token=x", headers={"x-forwarded-proto": "https"})
    assert moved.status_code == 401


def test_pages_of_the_origins_that_are_named_may_ask(http: httpx2.Client, served: Served) -> None:
    asks = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    allowed = http.options("/v1/chat/completions", headers=asks)
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in allowed.headers
    other = http.options("/v1/chat/completions", headers={**asks, "origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
    with served.http() as without:
        assert "access-control-allow-origin" not in without.get("/v1/models", headers={"origin": ORIGIN}).headers


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    private = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


def test_tls_by_options(embedded: Program, served: Served, ada: str, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    options = ["--tls-cert", str(cert), "--tls-key", str(key)]
    with serving(embedded, "--host", "0.0.0.0", *options) as server:  # there are users: that is enough
        url = server.url.replace("0.0.0.0", "localhost")
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert))
        with httpx2.Client(verify=context, headers={"authorization": f"Bearer {ada}"}, timeout=PATIENCE) as http:
            assert http.get(f"{url}/v1/models").status_code == 200
            came_in = http.get(f"{url}/login?token={ada}")
            assert "Secure" in came_in.headers["set-cookie"] and "HttpOnly" in came_in.headers["set-cookie"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--tls-key", "key.pem"], "--tls-cert, which is not given"),
        (["--tls-cert", "nothing.pem"], "cannot be used: "),
        (["--root-path", "agents"], "is a path such as /agents"),
        (["--cors-origin", "*"], "is an origin such as"),
        (["--cors-origin", "https://chat.example/path"], "is an origin such as"),
    ],
)
def test_options_that_make_no_sense_are_named(embedded: Program, options: list[str], why: str) -> None:
    assert why in embedded("serve", "--port", "0", *options, code=2).err
