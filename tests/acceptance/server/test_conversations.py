"""The Conversations dialect, driven by the official client."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.acceptance.server.conftest import Served
from tests.support.model_server import ModelServer

AGENT = "openai-agent"


def texts(items: Any) -> list[str]:
    return [item.content[0].text for item in items]


def test_a_conversation_begins_with_items_and_goes_on_in_responses(
    served: Served, ada: str, model: ModelServer
) -> None:
    with served.openai(ada) as client:
        made = client.conversations.create(
            items=[{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello."}],
            metadata={"topic": "names"},
        )
        assert made.metadata == {"topic": "names"} and made.created_at > 1_700_000_000
        assert client.conversations.retrieve(made.id) == made
        assert client.conversations.update(made.id, metadata={"topic": "cities"}).metadata == {"topic": "cities"}
        assert client.conversations.retrieve(made.id).metadata == {"topic": "cities"}
        said = client.responses.create(model=AGENT, input="who am I?", conversation=made.id)
        assert said.output_text == "answer 2: who am I?"
        added = client.conversations.items.create(
            made.id, items=[{"role": "user", "content": "By the way."}, {"role": "user", "content": "I like rain."}]
        )
        assert texts(added.data) == ["By the way.", "I like rain."]
        everything = ["My name is Ada.", "Hello.", "who am I?", "answer 2: who am I?", "By the way.", "I like rain."]
        items = client.conversations.items.list(made.id, order="asc", limit=100)
        assert texts(items) == everything and not items.has_more
        for item in items:
            assert client.conversations.items.retrieve(item.id, conversation_id=made.id) == item  # type: ignore[arg-type]
        assert [item.id for item in items][-2:] == [item.id for item in added.data]
        with pytest.raises(openai.BadRequestError, match="cannot be deleted alone"):
            client.conversations.items.delete(added.data[0].id or "", conversation_id=made.id)
        with pytest.raises(openai.NotFoundError):
            client.conversations.items.retrieve("msg_nothing", conversation_id=made.id)
        deleted = client.conversations.delete(made.id)
        assert (deleted.id, deleted.deleted) == (made.id, True)
        for gone in (client.conversations.retrieve, client.conversations.items.list, client.conversations.delete):
            with pytest.raises(openai.NotFoundError):
                gone(made.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(said.id)


def test_items_come_in_pages_in_either_order(served: Served, ada: str) -> None:
    with served.openai(ada) as client:
        names = [f"item {number}" for number in range(7)]
        made = client.conversations.create(items=[{"role": "user", "content": name} for name in names])
        first = client.conversations.items.list(made.id, limit=3)
        assert texts(first.data) == names[:3:-1] and first.has_more
        assert texts(client.conversations.items.list(made.id, limit=3)) == names[::-1]
        assert texts(client.conversations.items.list(made.id, limit=2, order="asc")) == names
        after = client.conversations.items.list(made.id, order="asc", after=first.last_id or "")
        assert texts(after.data) == names[5:] and after.has_more is False
        with pytest.raises(openai.NotFoundError):
            client.conversations.items.list(made.id, after="nothing")
        wrong: tuple[dict[str, Any], ...] = ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"order": "up"})
        for each in wrong:
            with pytest.raises(openai.BadRequestError):
                client.conversations.items.list(made.id, **each)


def test_items_are_added_once(served: Served, ada: str) -> None:
    with served.openai(ada) as client:
        made = client.conversations.create()
        body: Any = {"items": [{"role": "user", "content": "once"}]}
        for headers in ({"idempotency-key": "k"}, {"idempotency-key": "k"}, {}, {"x-stainless-retry-count": "1"}):
            client.conversations.items.create(made.id, **body, extra_headers=headers)
        assert texts(client.conversations.items.list(made.id)) == ["once", "once"]


@pytest.mark.parametrize(
    "body",
    [
        {"items": "x"},
        {"items": [1]},
        {"items": [{"type": "unknown"}]},
        {"items": [{"role": "nobody", "content": "x"}]},
        {"items": [{"role": "user", "content": 1}]},
        {"items": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/"}]}]},
        {"items": [{"role": "user", "content": "x"}] * 21},
        {"metadata": {"a": 1}},
        {"metadata": {"a" * 65: "b"}},
        {"metadata": {str(number): "b" for number in range(17)}},
        {"model": 1},
        {"unknown": 1},
    ],
)
def test_what_makes_no_sense_is_refused(served: Served, ada: str, body: dict[str, Any]) -> None:
    with served.http(ada) as http:
        refused = http.post("/v1/conversations", json=body)
        assert refused.status_code == 400 and refused.json()["error"]["message"], refused.text
        assert refused.headers["x-should-retry"] == "false"
