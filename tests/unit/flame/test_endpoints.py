"""Where Flame is: the environment, whoever set it, then flamepy's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from flameagent.flame import Endpoints, FlameError, resolve
from flameagent.flame.endpoints import address

FILE = """
current-context: there
contexts:
  - name: elsewhere
    cluster: {endpoint: "http://elsewhere:1"}
  - name: there
    cluster:
      endpoint: "https://manager:8080"
      tls: {ca_file: /etc/flame/ca.crt}
    cache:
      endpoint: "grpcs://cache:9090"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def configured(home: Path, text: str) -> Path:
    file = home / ".flame" / "flame.yaml"
    file.parent.mkdir()
    file.write_text(text)
    return file


def test_nothing_configured_is_none(home: Path) -> None:
    assert resolve({}, home=home) is None
    assert resolve({"FLAME_ENDPOINT": "", "FLAME_CACHE_ENDPOINT": "grpc://cache:1"}, home=home) is None


def test_the_file_names_its_current_context(home: Path) -> None:
    file = configured(home, FILE)
    assert resolve({}, home=home) == Endpoints(
        "https://manager:8080",
        "grpcs://cache:9090",
        "/etc/flame/ca.crt",
        str(file),
        cache_source=str(file),
        ca_source=str(file),
    )


def test_the_environment_goes_before_the_file_and_whoever_set_it_is_named(home: Path) -> None:
    configured(home, FILE)
    environ = {"FLAME_ENDPOINT": "http://10.0.0.1:8080"}
    found = resolve(environ, home=home)
    assert found is not None
    assert (found.frontend, found.cache, found.source) == (
        "http://10.0.0.1:8080",
        "grpc://10.0.0.1:9090",
        "FLAME_ENDPOINT",
    )
    environ |= {"FLAME_CACHE_ENDPOINT": "grpc://c:1", "FLAME_CA_FILE": "/ca"}
    found = resolve(environ, home=home, sources={"FLAME_ENDPOINT": "--endpoint", "FLAME_CA_FILE": "--ca-file"})
    assert found == Endpoints(
        "http://10.0.0.1:8080", "grpc://c:1", "/ca", "--endpoint", None, "FLAME_CACHE_ENDPOINT", "--ca-file"
    )


def test_the_files_cache_belongs_to_its_cluster_and_its_ca_to_whatever_is_named(home: Path) -> None:
    """The CA as flamepy 0.6 has it; flamepy has no way to name another cluster without its cache."""
    configured(home, FILE)
    found = resolve({"FLAME_ENDPOINT": "https://other:8080"}, home=home)
    assert found is not None
    assert (found.cache, found.ca_file) == ("grpcs://other:9090", "/etc/flame/ca.crt")


def test_the_cache_and_the_ca_can_be_named_in_the_environment(home: Path) -> None:
    configured(home, FILE)
    environ = {"FLAME_CACHE_ENDPOINT": "grpc://c:1", "FLAME_CA_FILE": "/ca"}
    found = resolve(environ, home=home)
    assert found is not None
    assert (found.frontend, found.cache, found.ca_file) == ("https://manager:8080", "grpc://c:1", "/ca")


@pytest.mark.parametrize(
    ("endpoint", "frontend", "cache"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080", "grpc://127.0.0.1:9090"),
        ("localhost", "http://localhost", "grpc://localhost:9090"),
        ("http://[::1]:8080", "http://[::1]:8080", "grpc://[::1]:9090"),
        ("https://flame.example/", "https://flame.example/", "grpcs://flame.example:9090"),
    ],
)
def test_a_cache_is_looked_for_beside_its_frontend(home: Path, endpoint: str, frontend: str, cache: str) -> None:
    found = resolve({"FLAME_ENDPOINT": endpoint}, home=home)
    assert found is not None
    assert (found.frontend, found.cache) == (frontend, cache)


@pytest.mark.parametrize(
    "endpoint", ["ftp://host:1", "http://", "http://host:port", "http://host:99999", "http://[::1"]
)
def test_what_is_no_endpoint_is_refused_by_name(home: Path, endpoint: str) -> None:
    with pytest.raises(FlameError, match="FLAME_ENDPOINT is not an endpoint"):
        resolve({"FLAME_ENDPOINT": endpoint}, home=home)


@pytest.mark.parametrize("cache", ["grpc://host:port", "grpc://", "ftp://host:1", "grpc://host:99999"])
def test_a_cache_endpoint_that_is_none_is_refused_by_name(home: Path, cache: str) -> None:
    environ = {"FLAME_ENDPOINT": "http://h:1", "FLAME_CACHE_ENDPOINT": cache}
    for sources in ({}, {"FLAME_CACHE_ENDPOINT": "--cache-endpoint"}):
        named = sources.get("FLAME_CACHE_ENDPOINT", "FLAME_CACHE_ENDPOINT")
        with pytest.raises(FlameError, match=f"^{named} is not an endpoint"):
            resolve(environ, sources=sources, home=home)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "current-context: x", "current-context: x\ncontexts: {}", "a: [", "contexts: [1, {name: y}]", "\x00"],
)
def test_a_file_that_says_nothing_usable_is_named(home: Path, text: str) -> None:
    file = configured(home, text)
    with pytest.raises(FlameError) as raised:
        resolve({}, home=home)
    assert str(file) in str(raised.value)


def test_a_broken_file_does_not_matter_where_it_is_not_needed(home: Path) -> None:
    configured(home, "a: [")
    assert resolve({"FLAME_ENDPOINT": "http://h:1"}, home=home) == Endpoints(
        "http://h:1", "grpc://h:9090", None, "FLAME_ENDPOINT"
    )


def test_a_context_without_an_endpoint_is_no_configuration(home: Path) -> None:
    configured(home, "current-context: x\ncontexts: [{name: x, cluster: text}]")
    assert resolve({}, home=home) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("grpc://h:1", ("h:1", False)),
        ("grpcs://h", ("h:9090", True)),
        ("https://h:8", ("h:8", True)),
        ("grpc+tls://h:8", ("h:8", True)),
        ("h:8", ("h:8", False)),
        ("http://[::1]:8", ("[::1]:8", False)),
    ],
)
def test_an_endpoint_has_an_address_and_a_port(url: str, expected: tuple[str, bool]) -> None:
    assert address(url, 9090) == expected
