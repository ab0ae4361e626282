"""Who may come in: with which tokens, how they are made and taken back, and what everybody may see."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.acceptance.program import Program, eventually
from tests.acceptance.server.conftest import Served, serving, token_of


def test_the_openai_client_lists_the_agents(served: Served, ada: str) -> None:
    for token in (served.token, ada):
        with served.openai(token) as client:
            assert [each.id for each in client.models.list()] == ["openai-agent"]
            assert client.models.retrieve("openai-agent").id == "openai-agent"


def test_without_a_token_only_the_state_of_the_server_is_told(served: Served) -> None:
    with served.http("") as http:
        assert http.get("/healthz").json() == http.get("/readyz").json() == {"status": "ok"}
        for path in (
            "/v1/models",
            "/v1/models/openai-agent",
            "/v1/nothing",
            "/mcp",
            "/metrics",
            "/healthz/../v1/models",
        ):
            refused = http.get(path)
            assert refused.status_code == 401, path
            assert refused.json()["error"]["code"] == "invalid_api_key"
            assert refused.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer", "Bearer fa_", "Bearer fa_nobody", "Basic YTpi", "Bearer \xe9", "fa_x"])
def test_other_tokens_are_refused(served: Served, ada: str, header: str) -> None:
    with served.http("") as http:
        refused = http.get("/v1/models", headers={"authorization": header.encode("latin-1")})  # type: ignore[dict-item]
        assert refused.status_code == 401 and "traceback" not in refused.text.casefold()


def test_a_token_is_shown_once_and_kept_as_a_hash(served: Served, embedded: Program) -> None:
    token = token_of(embedded, "hashed")
    kept = sqlite3.connect(Path(embedded.environment["LOCALFLAME_HOME"]) / "flame.db")
    assert token.encode() not in b"".join(line.encode("utf-8", "surrogateescape") for line in kept.iterdump())
    assert token not in embedded("users", "list", "--json").out
    assert embedded("users", "add", "hashed", code=6).err.startswith("There is a user hashed already")


def test_a_token_that_was_renewed_or_revoked_counts_no_more(served: Served, embedded: Program) -> None:
    first = token_of(embedded, "renewed")
    second = embedded("users", "renew", "renewed", "--json").json["token"]
    with served.http() as http:

        def status(token: str) -> int:
            return http.get("/v1/models", headers={"authorization": f"Bearer {token}"}).status_code

        eventually(lambda: (status(first), status(second)) == (401, 200))
        assert embedded("users", "revoke", "renewed").out == "The token of renewed counts no more.\n"
        eventually(lambda: status(second) == 401)
    assert embedded("users", "revoke", "renewed", code=2).err.startswith("There is no user renewed.")
    assert embedded("users", "renew", "nobody", code=2).err.startswith("There is no user nobody.")


def test_users_are_known_to_a_server_that_starts_later(embedded: Program, served: Served, ada: str) -> None:
    with serving(embedded) as another:
        assert another.token == ""  # there are users
        with another.http(ada) as http:
            assert http.get("/v1/models").status_code == 200
        with another.http(served.token) as http:
            assert http.get("/v1/models").status_code == 401


def test_an_address_for_others_needs_users_or_a_word(own: Program) -> None:
    refused = own("serve", "--host", "0.0.0.0", "--port", "0", code=2)
    assert "add a user first (`users add NAME`), or say --insecure" in refused.err
    token_of(own, "somebody")
    refused = own("serve", "--host", "0.0.0.0", "--port", "0", code=2)
    assert "put a proxy with TLS before it, or say --insecure" in refused.err
    assert "cannot be listened on" in own("serve", "--host", "192.0.2.1", "--insecure", code=2).err


def test_what_has_no_route_is_told_in_the_same_form(served: Served) -> None:
    with served.http() as http:
        assert http.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
        assert http.delete("/v1/models").status_code == 405
        assert http.get("/v1/models/nobody").json()["error"]["code"] == "model_not_found"


def test_a_browser_comes_in_by_a_link_or_a_form_and_has_a_cookie(served: Served, ada: str) -> None:
    with served.http("") as http:
        asked = http.get("/")
        assert asked.status_code == 401 and 'name="token"' in asked.text
        assert "default-src 'none'" in asked.headers["content-security-policy"]
        wrong = http.get("/login", params={"token": "fa_wrong"})
        assert wrong.status_code == 401 and "not known" in wrong.text and "set-cookie" not in wrong.headers
        by_link = http.get("/login", params={"token": ada})
        assert (by_link.status_code, by_link.headers["location"]) == (303, "/")
        cookie = by_link.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/;" in cookie
        assert http.get("/v1/sessions").status_code == 200  # the client keeps the cookie
    with served.http("") as http:
        here = {"sec-fetch-site": "same-origin"}
        form = {"token": f" {ada} ", "next": "/memory"}
        assert http.post("/login", data=form).status_code == 403
        assert http.post("/login", data=form, headers={"sec-fetch-site": "cross-site"}).status_code == 403
        assert http.post("/login", data=form, headers=here).headers["location"] == "/memory"
        for elsewhere in ("//evil.example/", "https://evil.example/", "/\\evil.example", "/\n/evil"):
            came = http.post("/login", data={"token": ada, "next": elsewhere}, headers=here)
            assert came.headers["location"] == "/"
        assert http.get("/v1/models").status_code == 200
        assert http.post("/logout", headers=here).headers["location"] == "/login"
        assert http.get("/v1/models").status_code == 401


def test_another_sites_page_changes_nothing_by_the_cookie(served: Served, ada: str) -> None:
    with served.http("") as http:
        http.get("/login", params={"token": ada})
        host = http.base_url.netloc.decode()
        for headers in (
            {},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},  # another port of this machine
            {"sec-fetch-site": "none", "origin": f"http://{host}"},
            {"origin": "http://evil.example"},
            {"origin": "null"},
        ):
            refused = http.post("/v1/sessions", json={}, headers=headers)
            assert refused.status_code == 403, headers
            assert refused.json()["error"]["type"] == "permission_error"
            assert http.delete("/v1/memory", headers=headers).status_code == 403
        for headers in ({"sec-fetch-site": "same-origin"}, {"origin": f"http://{host}"}):
            assert http.post("/v1/sessions", json={}, headers=headers).status_code == 201
        assert http.post("/v1/sessions", json={}, headers={"authorization": f"Bearer {ada}"}).status_code == 201


def test_an_engine_that_has_left_is_started_by_whoever_comes(own: Program) -> None:
    token = token_of(own, "ada")
    with serving(own) as server, server.http(token) as http:
        assert http.get("/v1/models").status_code == 200
        own("engine", "stop")
        assert http.get("/v1/sessions").json() == []
        own("engine", "stop")
        assert eventually(lambda: http.get("/readyz").status_code == 200)
        assert http.post("/v1/sessions", json={}).status_code == 201


def test_metrics_are_for_admins_and_name_nobody(served: Served, embedded: Program, ada: str) -> None:
    admin = embedded("users", "add", "prometheus", "--admin", "--json").json["token"]
    with served.http(ada) as http:
        session = http.post("/v1/sessions", json={}).json()["session_id"]
        assert http.get("/metrics").json()["error"]["code"] == "not_admin"
        assert http.get("/wp-login.php").status_code == 404
    with served.http(admin) as http:
        found = http.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain")
    assert 'flame_agent_http_requests_total{method="POST",route="/v1/sessions",status="201"}' in found.text
    assert 'flame_agent_turns{agent="openai-agent",state="running"} ' in found.text
    assert not any(text in found.text for text in ("ada", session, "wp-login"))
