"""Proxies and certificates as desktops and companies set them: what is not needed hinders nobody."""

from __future__ import annotations

from tests.acceptance.program import Program
from tests.support.model_server import ModelServer

SOCKS = "socks://ada:secret@127.0.0.1:1080"
BAD_PROXY = "ALL_PROXY is socks://***@127.0.0.1:1080, and a proxy looks like http://host:port"


def test_a_proxy_that_makes_no_sense_is_named_in_the_turn_and_beforehand(embedded: Program) -> None:
    behind = embedded.having(ALL_PROXY=SOCKS)
    failed = behind("-m", "hi", code=1)
    assert failed.out == "" and "secret" not in failed.err
    assert failed.err.startswith("ALL_PROXY is socks://") and "Nothing was added." in failed.err
    assert BAD_PROXY in behind("status").out
    assert behind("status", "--json").json["problem"].startswith(BAD_PROXY)

    excepted = behind.having(NO_PROXY="127.0.0.1", SSL_CERT_FILE="/nonexistent")
    assert excepted("status", "--json").json["problem"] == ""
    assert excepted("-q", "-m", "without it").out == "answer 1: without it\n"


def test_certificates_that_cannot_be_read_are_named(embedded: Program) -> None:
    secure = embedded.having(OPENAI_BASE_URL="https://127.0.0.1:1/v1", SSL_CERT_FILE="/nonexistent")
    named = "SSL_CERT_FILE is /nonexistent, which cannot be read: No such file or directory."
    assert secure("-m", "hi", code=1).err.startswith(named)
    assert secure("status", "--json").json["problem"].startswith(named)


def test_a_request_goes_by_the_proxy_and_the_engine_is_reached_without_it(
    embedded: Program, model: ModelServer
) -> None:
    away = embedded.having(OPENAI_BASE_URL="http://models.invalid/v1")
    proxy = model.url.removesuffix("/v1")
    behind = away.having(HTTP_PROXY=proxy, grpc_proxy="http://127.0.0.1:1", https_proxy="http://127.0.0.1:1")
    assert behind("-q", "-m", "by a proxy").out == "answer 1: by a proxy\n"
    assert behind("status", "--json").json["variables"]["HTTP_PROXY"] == proxy

    dead = away.having(http_proxy="http://127.0.0.1:1", grpc_proxy="http://127.0.0.1:1")
    assert "OPENAI_BASE_URL and http_proxy (http://127.0.0.1:1)." in dead("-m", "hi", code=1).err
