"""Conversations as data, from the command line: named, taken back, copied, written to files, deleted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.assistant import assistant
from tests.acceptance.conftest import Warm
from tests.acceptance.program import ROOT, Program, ended, eventually
from tests.acceptance.terminal import Terminal, on_a_terminal
from tests.acceptance.test_sessions import _conversation, _flame
from tests.support.model_server import ModelServer, Step
from tests.support.schema import check

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")


def _timeless(text: str) -> str:
    return _TIME.sub("TIME", text)


def _questions(program: Program, session: str) -> list[str]:
    return [turn["question"] for turn in program("history", session, "--json").json["turns"]]


def test_turns_are_taken_back_and_stay_in_the_whole_history(program: Program, warm: Warm) -> None:
    session_id = f"{program.name}-BACK01"
    _conversation(program, session_id, "one", "two", "three")
    rewound = program("rewind", "BACK01", "--to", "1")
    assert rewound.out == f"Rewound {session_id} to turn 1: 2 turns taken back.\n"
    assert rewound.err == (
        f"See what was taken back: uv run client.py history {session_id} --all\n"
        f'Go on: uv run client.py -s {session_id} -m "…"\n'
    )
    assert _questions(program, session_id) == ["one"]
    whole = program("history", "BACK01", "--all").out
    assert re.sub(r"TIME · \w+$", "TIME · WHO", _timeless(whole), flags=re.MULTILINE) == (
        f"Session {session_id} (open), 1 turn\n"
        "\nTurn 1 · TIME · some-model\n  user       one\n  assistant  yes\n"
        "\nTurn 2 · TIME · some-model · rewound\n  user       two\n  assistant  yes\n"
        "\nTurn 3 · TIME · some-model · rewound\n  user       three\n  assistant  yes\n"
        "\nRewound to turn 1 · TIME · WHO\n"
    )
    refused = program("history", "BACK01", "--turn", "2", code=2)
    assert (refused.out, refused.err) == ("", "There is no turn 2: the conversation has only turn 1.\n")
    for arguments, code, said in (
        (("--to", "1"), 2, "Turn 1 is the last one: there is nothing to rewind.\n"),
        (("--to", "7"), 2, "There is no turn 7: the conversation has 1 turn.\n"),
    ):
        refused = program("rewind", "BACK01", *arguments, code=code)
        assert (refused.out, refused.err) == ("", said)
    rewound = program("rewind", "BACK01", "--to", "0", "--json")
    check("rewind", rewound.json)
    assert rewound.json == {"session_id": session_id, "turns": 0, "rewound": 1, "cancelled": []}
    assert program("history", "BACK01", "--all", "--raw", "--turn", "2").out == (
        '{"role": "user", "content": "two"}\n{"role": "assistant", "content": "yes"}\n'
    )
    refused = program("history", "BACK01", "--turn", "2", code=2)
    assert (refused.out, refused.err) == ("", "There is no turn 2: the conversation has no turns.\n")
    refused = program("rewind", "BACK01", "--to", "0", code=2)
    assert (refused.out, refused.err) == ("", "The conversation has no turns: there is nothing to rewind.\n")


def test_a_turn_that_runs_is_taken_back_by_force_alone(program: Program, warm: Warm, model: ModelServer) -> None:
    before = len(_questions(program, warm.id))
    model.steps.append(Step(text="late", delay=60))
    asked = program.start("-s", warm.id, "-m", "a long one", "--json")
    with _flame(program) as (frontend, _):
        eventually(lambda: frontend.session(warm.id).running)
    refused = program("rewind", warm.id, "--to", str(before), code=6)
    assert refused.err == "A turn runs in this session. Wait for it, or have it cancelled with --force.\n"
    forced = program("rewind", warm.id, "--to", str(before), "--force", "--json").json
    assert (forced["turns"], forced["rewound"], len(forced["cancelled"])) == (before, 0, 1)
    assert ended(asked, code=1).error["code"] == "cancelled"
    assert len(_questions(program, warm.id)) == before


def test_the_last_question_is_asked_again_however_often_that_fails(
    program: Program, warm: Warm, model: ModelServer
) -> None:
    fork = program("fork", warm.id, "--at", "1", "-q").out.strip()
    assert _questions(program, fork) == ["who are you?"]
    program("-s", fork, "-m", "what else?", "-q")
    model.steps.append(Step(status=401))
    failed = program("retry", fork, code=1)
    assert failed.err.endswith(f"Nothing was added.\nAsk it again: uv run client.py retry {fork}\n")
    shown = program("history", fork).out
    assert "Turn 2" not in shown
    assert shown.endswith("\n\nTaken back to be asked again\n  user       what else?\n")
    again = program("retry", fork, "--json").json
    check("question", again)
    assert (again["turn"], again["status"]) == (2, "answered")
    assert _questions(program, fork) == ["who are you?", "what else?"]
    assert len(program("history", fork, "--all", "--json").json["turns"]) == 3


def test_a_fork_stands_alone_and_a_closed_or_damaged_session_has_forks(program: Program, warm: Warm) -> None:
    session_id = f"{program.name}-FORKED"
    key = _conversation(program, session_id, "one", "two", prompt="Be kind.")
    program("sessions", "rename", "FORKED", "  A  fork\nin the road ")
    program("close", session_id)
    forked = program("fork", "FORKED", "--at", "1", "--json").json
    check("fork", forked)
    assert forked == {"session_id": forked["session_id"], "origin": session_id, "turns": 1, "left": ""}
    copy = program("history", forked["session_id"], "--json").json
    original = program("history", session_id, "--json").json
    check("history", copy)
    assert (copy["title"], copy["prompt"], copy["origin"]) == ("A fork in the road", "Be kind.", session_id)
    assert copy["turns"] == original["turns"][:1]
    with _flame(program) as (_, cache):
        cache.patch(key, b"garbage")
    damaged = program("fork", "FORKED")
    assert re.fullmatch(rf"Copied 2 turns of {session_id} to {program.name}-\w+\.\n", damaged.out)
    assert damaged.err.startswith("Only what can be read was copied. Record 4 cannot be read: ")
    read = program("history", session_id, code=8)
    assert read.err.endswith(f"A sound copy of what can be read: uv run client.py fork {session_id}\n")
    assert program("fork", forked["session_id"], "--at", "2", code=2).err == (
        "There is no turn 2: the conversation has 1 turn.\n"
    )


def test_who_decided_stays_and_a_turn_that_waits_is_left_behind_or_taken_back(
    program: Program, warm: Warm, model: ModelServer
) -> None:
    model.script = assistant
    session_id = program("fork", warm.id, "--at", "0", "-q").out.strip()
    program("-s", session_id, "-q", "-m", "forget my city", code=3)
    copied = program("fork", session_id)
    assert copied.err.startswith("The turn that waits for an approval was left behind.\n")
    assert program("rewind", session_id, "--to", "0").out.endswith("to its beginning: 1 turn taken back.\n")
    program("-s", session_id, "-q", "-m", "forget my city", code=3)
    program("approve", session_id, "-q")
    shown = program("history", session_id, "--turn", "1").out
    assert re.search(r"\n  decision   \w+ approved forget \(\S+\) · ", shown)
    (turn,) = program("history", session_id, "--json").json["turns"]
    assert [len(decided["approved"]) for decided in turn["decisions"]] == [1]


def test_an_export_comes_back_on_any_engine(program: Program, warm: Warm, own: Program, tmp_path: Path) -> None:
    session_id = f"{program.name}-EXPORT"
    _conversation(program, session_id, "hello <script>alert(1)</script>", "and **so** on", prompt="Be kind.")
    program("sessions", "rename", "EXPORT", "To take along")
    file = tmp_path / "talk.json"
    assert program("export", "EXPORT", "-o", str(file)).out == f"Wrote {file}, 2 turns.\n"
    check("export", json.loads(file.read_text()))
    assert program("export", "EXPORT", "-f", "json").json == json.loads(file.read_text())

    imported = own("import", "-", "--json", input=file.read_text()).json
    check("import", imported)
    there = own("history", imported["session_id"], "--json").json
    here = program("history", session_id, "--json").json
    same = ("title", "prompt", "model", "usage", "facts", "turns", "messages")
    assert {name: there[name] for name in same} == {name: here[name] for name in same}
    back = tmp_path / "back.json"
    own("export", imported["session_id"], "-o", str(back))
    returned = program("import", str(back))
    assert re.match(rf"Imported 2 turns of {imported['session_id']} to {program.name}-\w+\.\n$", returned.out)
    assert own("-s", imported["session_id"], "-q", "-m", "and?").out == "answer 3: and?\n"

    page = program("export", "EXPORT", "-f", "html").out
    assert "<h1>To take along</h1>" in page and "<strong>" not in page
    assert "hello &lt;script&gt;alert(1)&lt;/script&gt;" in page and "<script" not in page
    assert _timeless(program("export", "EXPORT").out) == (
        f"# To take along\n\nSession {session_id}, 2 turns.\n\nPrompt:\n\n> Be kind.\n"
        "\n## Turn 1 · TIME · some-model\n"
        "\n**user**\n\n> hello <script>alert(1)</script>\n\n**assistant**\n\nyes\n"
        "\n## Turn 2 · TIME · some-model\n"
        "\n**user**\n\n> and **so** on\n\n**assistant**\n\nyes\n"
    )


def test_a_files_ending_is_its_form_or_the_form_is_asked_for(program: Program, warm: Warm, tmp_path: Path) -> None:
    for name, beginning in (("a.MD", "# "), ("b.markdown", "# "), ("plain", "# "), ("c.htm", "<!doctype html>")):
        program("export", warm.id, "-o", str(tmp_path / name))
        assert (tmp_path / name).read_text().startswith(beginning)
    refused = program("export", warm.id, "-o", str(tmp_path / "talk.pdf"), code=2)
    assert (refused.out, refused.err) == (
        "",
        f"{tmp_path / 'talk.pdf'} ends with .pdf, which is no form of an export: say --format md, json or html.\n",
    )
    assert not (tmp_path / "talk.pdf").exists()
    program("export", warm.id, "-o", str(tmp_path / "talk.txt"), "-f", "md")
    assert (tmp_path / "talk.txt").read_text() == (tmp_path / "a.MD").read_text()


def test_a_narrow_terminal_breaks_what_was_taken_back_between_words(program: Program, warm: Warm) -> None:
    session_id = f"{program.name}-NARROW"
    _conversation(program, session_id, "one", "two", "three")
    shown = Terminal(program, "rewind", "NARROW", "--to", "1", columns=len(session_id) + 12).ended()
    assert shown.startswith(f"Rewound {session_id} to\nturn 1: 2 turns taken back.\nSee what")


def test_what_is_no_export_is_refused_in_a_sentence(program: Program, warm: Warm, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("[]")
    refused = program("import", str(file), "--json", code=2)
    assert (refused.out, refused.error["code"]) == ("", "usage")
    assert refused.error["message"].startswith(f"{file} is not what `export --format json` writes: ")
    refused = program("import", str(tmp_path / "none"), code=2)
    assert refused.err == f"{tmp_path / 'none'} cannot be read: No such file or directory.\n"
    refused = program("export", warm.id, "-o", str(tmp_path / "no" / "file.md"), code=2)
    assert refused.err == f"{tmp_path / 'no' / 'file.md'} cannot be written: No such file or directory.\n"


def test_on_a_terminal_a_pager_shows_the_history(program: Program, warm: Warm) -> None:
    _conversation(program, f"{program.name}-PAGED1", "one")
    paged = program.having(PAGER="sed s/one/two/")
    assert "two" in on_a_terminal(paged, "history", "PAGED1")
    assert "  user       one\n" in paged("history", "PAGED1").out
    for pager in ("no-such-pager", ""):
        assert "one" in on_a_terminal(program.having(PAGER=pager), "history", "PAGED1")
    leaves = program.having(PAGER="true")  # and reads nothing
    assert "Traceback" not in on_a_terminal(leaves, "history", "PAGED1")


def test_sessions_are_found_by_what_was_said_and_what_they_are_called(program: Program, warm: Warm) -> None:
    session_id = f"{program.name}-SEARCH"
    _conversation(program, session_id, "the weather in Lisbon, and then some more of it")
    assert program("sessions", "rename", "SEARCH", "Holidays").out == f"Renamed {session_id}: Holidays\n"
    program("close", session_id)
    _, line, match = program("sessions", "--search", "WEATHER  in lisbon").out.splitlines()
    assert re.fullmatch(r"SEARCH  closed       1       0  +\d+ B  +\d+ s  Holidays", line)
    assert match.strip() == "turn 1: the weather in Lisbon, and then some more of it"
    (found,) = program("sessions", "--search", "holidays", "--state", "closed", "--limit", "1", "--json").json
    check("sessions", [found])
    assert (found["session_id"], found["title"], found["match"]) == (session_id, "Holidays", "title: Holidays")
    nothing = program("sessions", "--search", "holidays", "--state", "waiting")
    assert (nothing.out, nothing.err) == ("", "No session is like that.\n")
    program("sessions", "rename", session_id, "")
    assert program("sessions", "--limit", "1").out.splitlines()[1:] != []
    assert program("sessions", "--state", "gone", code=2).err == ("--state is open, waiting or closed, not 'gone'.\n")


def test_sessions_are_deleted_after_a_yes_or_not_at_all(program: Program, warm: Warm) -> None:
    one, two = f"{program.name}-TRASH1", f"{program.name}-TRASH2"
    keys = [_conversation(program, session_id, "rubbish") for session_id in (one, two)]
    refused = program("delete", "TRASH1", code=2)
    assert (refused.out, refused.err) == ("", "Nobody is here to ask whether to delete: say --yes.\n")
    assert program("delete", code=2).err == "Say what to delete: IDs, or --older-than AGE.\n"
    assert program("delete", "--older-than", "soon", code=2).err == (
        "An age is a number and s, min, h, d, w, such as 30d, not 'soon'.\n"
    )
    assert program("delete", "TRASH1", "nobody", "--yes", code=4).out == ""
    assert program("delete", "--older-than", "1d", "--yes", "--json").json == {"deleted": []}
    terminal = Terminal(program, "delete", "TRASH1")
    terminal.type_when("for good? [y/N] ", "\r")
    assert terminal.ended().endswith("Nothing was deleted.\n")
    terminal = Terminal(program, "delete", "TRASH1")
    terminal.type_when("for good? [y/N] ", "y\r")
    assert terminal.ended().endswith(f"Deleted {one}.\n")
    deleted = program("delete", two, "--yes", "--json").json
    check("delete", deleted)
    assert deleted == {"deleted": [two]}
    with _flame(program) as (_, cache):
        for key in keys:
            with pytest.raises(Exception, match="not found"):
                cache.get(key)
    assert program("history", "TRASH1", code=4).out == ""


def test_a_deletion_that_was_broken_off_is_done_again(program: Program, warm: Warm) -> None:
    _conversation(program, f"{program.name}-BROKE1", "rubbish")
    with _flame(program) as (frontend, cache):
        frontend.close_session(f"{program.name}-BROKE1")
        cache.delete(f"{program.name}/{program.name}-BROKE1")
    assert program("delete", "BROKE1", "--yes").out == f"Deleted {program.name}-BROKE1.\n"


def test_every_command_that_prints_json_has_a_schema(program: Program, warm: Warm) -> None:
    schemas: dict[str, Any] = json.loads((ROOT / "docs" / "json-schema.json").read_text())["$defs"]
    as_question = {"", "chat", "approve", "reject", "retry"}
    pages = re.split(r"\n##+ `uv run client.py ?", (ROOT / "docs" / "commands.md").read_text())
    with_json = {page.split("`")[0] for page in pages[1:] if "\n* `--json`: " in page}
    assert len(with_json) > 10
    assert with_json - as_question <= {*schemas}
    for command in ("status", "engine status", "engine start"):
        check(command, program(*command.split(), "--json").json, closed=False)
    check("error", json.loads(program("history", "nobody", "--json", code=4).err))
