"""The way to a model's server: the proxy and the certificates that the environment names."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from unittest import mock

import certifi
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flameagent import network
from flameagent.model_choice import ModelError
from flameagent.network import client_options, find_mistake, route_to

SERVER = "https://models.example/v1"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"ALL_PROXY": "socks://127.0.0.1:1080"}, "ALL_PROXY is socks://127.0.0.1:1080, and a proxy looks like"),
        ({"all_proxy": "socks4://127.0.0.1:1080"}, "all_proxy is socks4://127.0.0.1:1080, and a proxy looks like"),
        ({"https_proxy": "http://["}, "https_proxy is http://[, and a proxy looks like"),
        ({"HTTPS_PROXY": "http://"}, "HTTPS_PROXY is http://, and a proxy looks like"),
        ({"HTTPS_PROXY": "proxy:port"}, "HTTPS_PROXY is proxy:port, and a proxy looks like"),
        ({"HTTPS_PROXY": "http://proxy:99999"}, "HTTPS_PROXY is http://proxy:99999, and a proxy looks like"),
        ({"HTTPS_PROXY": "http://my proxy:3128"}, "HTTPS_PROXY is http://my proxy:3128, and a proxy looks like"),
        ({"ALL_PROXY": "socks5h://127.0.0.1:1080"}, "a SOCKS proxy needs the package socksio"),
        ({"ALL_PROXY": "socks://user:pass@127.0.0.1:1080"}, "ALL_PROXY is socks://***@127.0.0.1:1080, "),
        ({"HTTPS_PROXY": "http://user:p#ss/w@rd@proxy:3128"}, "HTTPS_PROXY is http://***@proxy:3128, "),
        ({"HTTPS_PROXY": "user:p/ss@proxy:3128"}, "HTTPS_PROXY is ***@proxy:3128, "),
        ({"SSL_CERT_FILE": "/nonexistent"}, "SSL_CERT_FILE is /nonexistent, which cannot be read: No such file"),
        ({"SSL_CERT_FILE": "/"}, "SSL_CERT_FILE is /, which cannot be read: "),
        ({"SSL_CERT_FILE": __file__}, f"SSL_CERT_FILE is {__file__}, which holds no certificate in PEM. "),
        ({"SSL_CERT_DIR": "/nonexistent"}, "SSL_CERT_DIR is /nonexistent, which cannot be read: No such file"),
        ({"SSL_CERT_DIR": "/:/"}, "SSL_CERT_DIR is /:/, in which there is no certificate"),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_without_a_password(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ModelError) as failed:
        route_to(SERVER, environ)
    assert said in str(failed.value)
    assert not {"user", "pass", "p#ss", "p/ss", "rd@"} & set(str(failed.value).replace(":", " ").split())


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        ("http://127.0.0.1:11434/v1", {"HTTPS_PROXY": "socks://x", "SSL_CERT_FILE": "/nonexistent"}),
        ("http://127.0.0.1:11434/v1", {"ALL_PROXY": "socks://x", "NO_PROXY": "localhost, 127.0.0.0/8"}),
        (SERVER, {"HTTP_PROXY": "socks://x", "ALL_PROXY": ""}),
        (SERVER, {"ALL_PROXY": "socks://x", "all_proxy": ""}),
        (SERVER, {"ALL_PROXY": "socks://x", "no_proxy": "*"}),
        (SERVER, {"ALL_PROXY": "socks://x", "NO_PROXY": "other.example", "no_proxy": ".example"}),
        (SERVER, {"ALL_PROXY": "socks://x", "NO_PROXY": "models.example:443"}),
        ("https://[::1]:8443/v1", {"ALL_PROXY": "socks://x", "NO_PROXY": "[::1]:8443"}),
        ("https://[fd00::1]/v1", {"ALL_PROXY": "socks://x", "NO_PROXY": "fd00::/8"}),
        (SERVER, {"REQUESTS_CA_BUNDLE": "/nonexistent", "FTP_PROXY": "http://["}),
    ],
)
def test_what_the_server_does_not_need_may_be_wrong(url: str, environ: dict[str, str]) -> None:
    found = route_to(url, environ)
    assert (found.proxy, found.ca_file, dict(found.variables)) == (None, None, {})


def test_a_proxy_of_the_scheme_counts_before_one_for_all() -> None:
    desktop = {"ALL_PROXY": "socks://127.0.0.1:1080/", "HTTPS_PROXY": " user:secret@proxy:3128\r"}
    found = route_to(SERVER, desktop)
    assert found.proxy == "http://user:secret@proxy:3128"
    assert found.variables == {"HTTPS_PROXY": "***@proxy:3128"}


def test_certificates_count_for_tls_to_the_server_or_to_the_proxy() -> None:
    trusted = {"SSL_CERT_FILE": certifi.where(), "SSL_CERT_DIR": "/nonexistent"}
    assert route_to(SERVER, trusted).ca_file == certifi.where()
    assert route_to("http://models.example", trusted).ca_file is None
    assert route_to("http://models.example", trusted | {"HTTP_PROXY": "https://proxy"}).ca_file == certifi.where()


def test_who_makes_a_client_of_their_own_hears_of_all(tmp_path: Path) -> None:
    assert find_mistake({"HTTP_PROXY": "socks://x"}).startswith("HTTP_PROXY is socks://x, ")
    assert find_mistake({"NO_PROXY": "*", "ALL_PROXY": "http://["}).startswith("ALL_PROXY is http://[, ")
    assert find_mistake({"SSL_CERT_FILE": str(tmp_path / "no")}).startswith(f"SSL_CERT_FILE is {tmp_path / 'no'}, ")
    assert find_mistake({"HTTPS_PROXY": "http://proxy:3128", "SSL_CERT_FILE": certifi.where()}) == ""


HOSTS = st.sampled_from(
    ["models.example", "a.models.example", "example", "127.0.0.1", "10.1.2.3", "localhost", "[::1]"]
)
ENTRIES = st.sampled_from(
    [
        "*",
        "models.example",
        ".models.example",
        "*.models.example",
        "example",
        "notmodels.example",
        "127.0.0.1",
        "10.0.0.0/8",
        "10.1.2.0/24",
        "localhost",
        "::1",
        "[::1]",
        "[::1]:8443",
        "models.example:8443",
        "127.0.0.1:8443",
        "https://models.example",
        "http://example",
        "a/b",
    ]
)
VALUES = st.sampled_from(["http://one:1", "two:2", "https://three:3", ""])


@given(
    scheme=st.sampled_from(["http", "https"]),
    host=HOSTS,
    port=st.sampled_from(["", ":8443"]),
    proxies=st.dictionaries(
        st.sampled_from(["HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"]), VALUES
    ),
    excepted=st.lists(ENTRIES, max_size=3),
)
def test_the_proxy_is_the_one_that_httpx_would_take(
    scheme: str, host: str, port: str, proxies: dict[str, str], excepted: list[str]
) -> None:
    url, environ = f"{scheme}://{host}{port}/v1", proxies | {"NO_PROXY": ",".join(excepted)}
    with mock.patch.dict("os.environ", environ, clear=True):
        theirs = httpx2.Client(verify=False)._transport_for_url(httpx2.URL(url))
        ours = httpx2.Client(**{**client_options(url, os.environ), "verify": False})._transport_for_url(
            httpx2.URL(url)
        )
    assert _proxy(ours) == _proxy(theirs)


def _proxy(transport: httpx2.BaseTransport) -> str:
    return str(getattr(transport._pool, "_proxy_url", ""))  # type: ignore[attr-defined]


def test_a_client_trusts_the_file_that_is_named_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = Path(certifi.where()).read_text()
    first = whole[: whole.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    (tmp_path / "one.pem").write_text(first)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "one.pem"))
    context = client_options(SERVER, os.environ)["verify"]
    assert isinstance(context, ssl.SSLContext) and len(context.get_ca_certs()) == 1
    system = client_options("http://models.example", os.environ)["verify"]
    assert system.cert_store_stats() == httpx2.create_ssl_context(trust_env=False).cert_store_stats()


def test_the_systems_authorities_are_where_httpx_looks_for_them() -> None:
    from httpcore2 import _ssl

    assert [*network._SYSTEM] == _ssl.CA_FILE_CANDIDATES


def test_authorities_are_read_once_and_again_when_they_have_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = Path(certifi.where()).read_text().split("-----END CERTIFICATE-----")
    one, other = (f"{text}-----END CERTIFICATE-----\n" for text in whole[:2])
    file = tmp_path / "trusted.pem"
    file.write_text(one)
    environ = {"SSL_CERT_FILE": str(file)}
    first = client_options(SERVER, environ)["verify"]
    assert client_options(SERVER, environ)["verify"] is first
    file.write_text(one + other)
    second = client_options(SERVER, environ)["verify"]
    assert (len(first.get_ca_certs()), len(second.get_ca_certs())) == (1, 2)
    file.write_text("no certificate")
    with pytest.raises(ModelError, match="holds no certificate"):
        client_options(SERVER, environ)
