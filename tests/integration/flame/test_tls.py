"""TLS to Flame's frontend and cache: real listeners with the certificates that deploy/certificates.sh makes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pyarrow.flight as flight
import pytest

from flameagent.cli.completion import session_ids
from flameagent.client import connect
from flameagent.flame import Endpoints, FlameError, Unreachable
from flameagent.flame.cache import ObjectCache
from flameagent.flame.frontend import Frontend
from flamewire.stubs import frontend_grpc, types
from tests.acceptance.program import Program, clean_environment

HOW_TO_TRUST = "name its CA's file with --ca-file, or in FLAME_CA_FILE"
SCRIPT = Path(__file__).parents[3] / "deploy" / "certificates.sh"


class Sessions(frontend_grpc.FrontendServicer):  # type: ignore[misc,name-defined]
    def ListSession(self, request: Any, context: Any) -> Any:
        status = types.SessionStatus(state=types.SessionState.Value("Open"))
        spec = types.SessionSpec(application="openai-agent")
        ids = "openai-agent-SECURE", "openai-agent-$(touch it)"  # Flame takes any text
        told = [types.Session(metadata=types.Metadata(id=each, name=""), spec=spec, status=status) for each in ids]
        return types.SessionList(sessions=told)

    def GetApplication(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such application")


class Cache(flight.FlightServerBase):  # type: ignore[misc]
    def do_action(self, context: Any, action: Any) -> Iterator[bytes]:
        yield b"OK"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ours` and `theirs` are two authorities; `elsewhere` is by ours, for another host."""
    folder = tmp_path_factory.mktemp("certificates")
    for name, hosts in (("ours", ["127.0.0.1"]), ("theirs", ["127.0.0.1"])):
        subprocess.run(["bash", SCRIPT, folder / name, *hosts], check=True, capture_output=True)
    (folder / "elsewhere").mkdir()
    for file in ("ca.crt", "ca.key"):
        (folder / "elsewhere" / file).write_bytes((folder / "ours" / file).read_bytes())
    subprocess.run(
        ["bash", SCRIPT, folder / "elsewhere", "flame.example", "10.0.0.7"], check=True, capture_output=True
    )
    return folder


class Listeners:
    """A frontend and an object cache, with the certificate of a folder or without TLS."""

    def __init__(self, folder: Path | None) -> None:
        self._frontend = grpc.server(futures.ThreadPoolExecutor(2))
        frontend_grpc.add_FrontendServicer_to_server(Sessions(), self._frontend)
        if folder:
            certificate, key = (folder / "server.crt").read_bytes(), (folder / "server.key").read_bytes()
            credentials = grpc.ssl_server_credentials([(key, certificate)])
            self.frontend = self._frontend.add_secure_port("127.0.0.1:0", credentials)
            self._cache = Cache("grpc+tls://127.0.0.1:0", tls_certificates=[(certificate, key)])
        else:
            self.frontend = self._frontend.add_insecure_port("127.0.0.1:0")
            self._cache = Cache("grpc://127.0.0.1:0")
        self.cache = self._cache.port
        self._frontend.start()

    def stop(self) -> None:
        self._frontend.stop(grace=None)
        self._cache.shutdown()


@pytest.fixture(scope="module")
def secure(certificates: Path) -> Iterator[Listeners]:
    listeners = Listeners(certificates / "ours")
    yield listeners
    listeners.stop()


@pytest.fixture(scope="module")
def misnamed(certificates: Path) -> Iterator[Listeners]:
    listeners = Listeners(certificates / "elsewhere")
    yield listeners
    listeners.stop()


@pytest.fixture(scope="module")
def plain() -> Iterator[Listeners]:
    listeners = Listeners(None)
    yield listeners
    listeners.stop()


def endpoints(listeners: Listeners, tls: bool, ca_file: object = None) -> Endpoints:
    return Endpoints(
        f"{'https' if tls else 'http'}://127.0.0.1:{listeners.frontend}",
        f"{'grpcs' if tls else 'grpc'}://127.0.0.1:{listeners.cache}",
        str(ca_file) if ca_file else None,
        ca_source="--ca-file" if ca_file else "",
    )


def use(where: Endpoints) -> None:
    """A call to each; closes what it opened."""
    frontend = Frontend(where)
    try:
        assert len(frontend.sessions()) == 2
    finally:
        frontend.close()
    cache = ObjectCache(where)
    try:
        cache.delete("application/session")
    finally:
        cache.close()


def complaints(where: Endpoints) -> tuple[str, str]:
    """What the frontend's client says and what the cache's says, of two calls that fail."""
    frontend, cache = Frontend(where), ObjectCache(where)
    try:
        with pytest.raises(Unreachable) as of_frontend:
            frontend.sessions()
        with pytest.raises(Unreachable) as of_cache:
            cache.delete("application/session")
    finally:
        frontend.close()
        cache.close()
    return str(of_frontend.value), str(of_cache.value)


def test_the_authority_of_the_ca_file_is_trusted_by_both(secure: Listeners, certificates: Path) -> None:
    use(endpoints(secure, True, certificates / "ours" / "ca.crt"))


def test_the_cache_may_have_an_authority_of_its_own(secure: Listeners, plain: Listeners, certificates: Path) -> None:
    where = endpoints(secure, True, certificates / "theirs" / "ca.crt")
    cache = ObjectCache(
        Endpoints(where.frontend, where.cache, where.ca_file, "", str(certificates / "ours" / "ca.crt"))
    )
    cache.delete("application/session")
    cache.close()


def test_the_client_is_told_the_authority_by_an_option(secure: Listeners, certificates: Path, tmp_path: Path) -> None:
    file, other = certificates / "ours" / "ca.crt", certificates / "theirs" / "ca.crt"
    client = Program(clean_environment(tmp_path) | {"FLAME_CA_FILE": str(other)})
    where = endpoints(secure, True)
    there = ("--endpoint", where.frontend, "--cache-endpoint", where.cache)
    trusted = client("status", "--json", *there, "--ca-file", str(file)).json
    assert (trusted["reachable"], trusted["registered"]) == (True, False)
    refused = client("--ca-file", str(other), "sessions", *there, code=5).err
    assert refused.startswith(f"The certificate of {where.frontend} is not by the authority in ")
    assert f"the CA file {other} (--ca-file): " in refused
    assert f"the CA file {other} (FLAME_CA_FILE): " in client("sessions", *there, code=5).err
    typo = client("sessions", *there, "--ca-file", "/no/ca.crt", code=2).err
    assert typo == "The CA file /no/ca.crt (--ca-file) cannot be read: No such file or directory.\n"
    told = client("status", "--json", *there, "--ca-file", "/no/ca.crt", code=2)
    assert (told.json["reachable"], f"{told.json['problem']}\n") == (False, typo)
    assert told.json["settings"]["ca_file"] == {"value": "/no/ca.crt", "source": "--ca-file"}
    with connect(where.frontend, {"HOME": str(tmp_path)}, ca_file="/no/ca.crt") as unread:
        assert (f"{(found := unread.status()).problem}\n", found.advice) == (typo, "")
    distrusted = client("status", "--json", *there).json
    assert f"the CA file {other} (FLAME_CA_FILE): " in distrusted["problem"] and distrusted["advice"] == ""
    completed = dict(session_ids("", {"endpoint": where.frontend, "ca_file": str(file)}))
    assert list(completed) == ["SECURE"]
    assert session_ids("", {"endpoint": where.frontend, "ca_file": str(other)}) == []


def test_another_authority_is_named(secure: Listeners, certificates: Path) -> None:
    file = certificates / "theirs" / "ca.crt"
    where = endpoints(secure, True, file)
    for url, said in zip((where.frontend, where.cache), complaints(where), strict=True):
        assert said.startswith(
            f"The certificate of {url} is not by the authority in the CA file {file} (--ca-file): "
        )


def test_without_a_ca_file_it_is_asked_for(secure: Listeners) -> None:
    where = endpoints(secure, True)
    for url, said in zip((where.frontend, where.cache), complaints(where), strict=True):
        assert said.startswith(f"The certificate of {url} is by no authority that this machine trusts (")
        assert said.endswith(f"): {HOW_TO_TRUST}.")


def test_a_certificate_for_another_address_is_said_to_be_one(misnamed: Listeners, certificates: Path) -> None:
    where = endpoints(misnamed, True, certificates / "ours" / "ca.crt")
    for url, said in zip((where.frontend, where.cache), complaints(where), strict=True):
        assert said.startswith(f"The certificate of {url} is not for this address (")


def test_a_plain_endpoint_where_tls_is_needed(secure: Listeners) -> None:
    where, instead = endpoints(secure, False), endpoints(secure, True)
    assert complaints(where) == (
        f"What answers at {where.frontend} speaks TLS: write {instead.frontend}, and {HOW_TO_TRUST}.",
        f"What answers at {where.cache} speaks TLS: write {instead.cache}, and {HOW_TO_TRUST}.",
    )


def test_tls_where_the_endpoint_is_plain(plain: Listeners) -> None:
    where, instead = endpoints(plain, True), endpoints(plain, False)
    assert complaints(where) == (
        f"What answers at {where.frontend} does not speak TLS: write {instead.frontend}.",
        f"What answers at {where.cache} does not speak TLS: write {instead.cache}.",
    )


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    where = Endpoints("https://127.0.0.1:1", "grpcs://127.0.0.1:1", str(tmp_path / "ca.crt"))
    for part in (Frontend, ObjectCache):
        with pytest.raises(FlameError, match=r"^The CA file .*ca\.crt cannot be read: No such file or directory\.$"):
            part(where)
    (tmp_path / "ca.crt").write_text("nonsense")
    where = replace(where, ca_source="--ca-file")
    for part in (Frontend, ObjectCache):
        with pytest.raises(FlameError, match=r"^The CA file .*ca\.crt \(--ca-file\) holds no certificate in PEM\.$"):
            part(where)
