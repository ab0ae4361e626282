"""Pages of lists, as the dialects of OpenAI have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from flameagent.server.errors import NotFoundError, RequestError

LIMIT = 100


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted: so many, after the one of an ID, newest first or oldest first."""

    after: str = ""
    limit: int = 20
    descending: bool = True

    @classmethod
    def of(cls, request: Request) -> Page:
        """What a request asks for. Raises `RequestError`."""
        query = request.query_params
        limit, order = query.get("limit", "20"), query.get("order", "desc")
        if not (limit.isascii() and limit.isdecimal() and len(limit) < 5 and 1 <= int(limit) <= LIMIT):
            raise RequestError(400, f"A limit is a whole number from 1 to {LIMIT}.", param="limit")
        if order not in ("asc", "desc"):
            raise RequestError(400, "An order is asc or desc.", param="order")
        return cls(query.get("after", ""), int(limit), order == "desc")

    def of_items(self, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The page of items, which are given oldest first. Raises `NotFoundError` where it is to begin after none."""
        ordered = list(found)[::-1] if self.descending else list(found)
        if self.after:
            place = next((place for place, each in enumerate(ordered) if each["id"] == self.after), None)
            if place is None:
                raise NotFoundError("item", self.after)
            ordered = ordered[place + 1 :]
        shown = ordered[: self.limit]
        first, last = (shown[0]["id"], shown[-1]["id"]) if shown else ("", "")
        return {
            "object": "list",
            "data": shown,
            "first_id": first,
            "last_id": last,
            "has_more": len(ordered) > self.limit,
        }
