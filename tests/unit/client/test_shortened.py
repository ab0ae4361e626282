"""The short IDs of a list: without the agent's name, where that finds the session alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flameagent.client.sessions import shortened

_IDS = st.lists(
    st.builds(
        lambda prefix, rest: prefix + rest,
        st.sampled_from(["agent-", "agent", ""]),
        st.text("aAbB-ßi\u0130", max_size=5),
    ),
    unique=True,
    max_size=12,
)


def _alone(session_id: str, ids: list[str]) -> str:
    part = session_id.removeprefix("agent-")
    found = [other for other in ids if part.casefold() in other.casefold()]
    return part if part and len(found) == 1 else session_id


@given(_IDS, st.integers(0, 12))
def test_an_id_is_short_where_the_rest_of_it_is_in_no_other(ids: list[str], count: int) -> None:
    wanted = ids[:count]
    assert shortened(wanted, ids, "agent") == {session_id: _alone(session_id, ids) for session_id in wanted}
