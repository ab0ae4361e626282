"""Turns from the command line: what is printed where, and what is remembered."""

from __future__ import annotations

import getpass
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Warm
from tests.acceptance.program import PATIENCE, Program, ended
from tests.acceptance.terminal import Terminal
from tests.support.model_server import Call, ModelServer, Step, echo


def _numbers(warm: Warm, program: Program) -> int:
    return len(program("history", warm.id, "--json").json["turns"])


def test_a_first_turn_prints_the_answer_and_its_history_and_says_how_to_go_on(warm: Warm, program: Program) -> None:
    assert re.fullmatch(rf"{program.name}-[A-Z0-9]{{6}}", warm.id)
    assert warm.first.out == (
        "answer 1: who are you?\n"
        "\n"
        f"Session History ({warm.id})\n"
        "* user       who are you?\n"
        "* assistant  answer 1: who are you?\n"
    )
    assert warm.first.err == f'Answered by gpt-5.6-luna.\nGo on: uv run client.py -s {warm.id} -m "…"\n'


def test_a_session_goes_on_by_a_part_of_its_id_and_by_continue(program: Program) -> None:
    first = program("-m", "one", "--prompt", "Be brief.", "--json").json
    part = first["session_id"][-6:].lower()
    second = program("-s", part, "-m", "two")
    assert second.out == (
        "answer 2: two\n"
        "\n"
        f"Session History ({first['session_id']})\n"
        "  user       one\n"
        "  assistant  answer 1: one\n"
        "* user       two\n"
        "* assistant  answer 2: two\n"
    )
    for number in range(3, 8):
        last = program("-c", "-m", f"q{number}")
    assert last.out == (
        "answer 7: q7\n"
        "\n"
        f"Session History ({first['session_id']})\n"
        f"  … 2 before; all of it: uv run client.py history {first['session_id']}\n"
        "  user       two\n"
        "  assistant  answer 2: two\n"
        + "".join(f"  user       q{n}\n  assistant  answer {n}: q{n}\n" for n in range(3, 7))
        + "* user       q7\n* assistant  answer 7: q7\n"
    )
    shown = program("history", part).out
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", shown).startswith(
        f"Session {first['session_id']} (open), 7 turns\n"
        "  prompt     Be brief.\n"
        "\n"
        "Turn 1 · TIME · gpt-5.6-luna\n"
        "  user       one\n"
        "  assistant  answer 1: one\n"
        "\n"
        "Turn 2 · TIME · gpt-5.6-luna\n"
    )
    assert program("history", part, "--json").json["prompt"] == "Be brief."


def test_the_prompt_of_a_session_is_what_the_model_is_told(program: Program, model: ModelServer, warm: Warm) -> None:
    program("-s", warm.id, "-q", "-m", "hello")
    assert model.bodies[-1]["messages"][0]["role"] == "system"
    assert [message["content"] for message in model.bodies[-1]["messages"][1:3]] == [
        "who are you?",
        "answer 1: who are you?",
    ]


def test_quiet_prints_the_answer_alone(program: Program, warm: Warm) -> None:
    number = _numbers(warm, program) + 1
    quiet = program("-s", warm.part, "-q", "-m", "hush")
    assert (quiet.out, quiet.err) == (f"answer {number}: hush\n", "")


def test_json_has_the_fields_to_rely_on(program: Program, warm: Warm) -> None:
    number = _numbers(warm, program) + 1
    done = program("-s", warm.id, "-m", "numbers", "--json")
    assert done.err == ""
    assert {key: done.json[key] for key in ("session_id", "turn", "status", "answer", "pending")} == {
        "session_id": warm.id,
        "turn": number,
        "status": "answered",
        "answer": f"answer {number}: numbers",
        "pending": [],
    }
    assert [item["role"] for item in done.json["added"]] == ["user", "assistant"]
    assert done.json["usage"]["requests"] == 1

    turn = program("history", warm.id, "--json").json["turns"][-1]
    assert turn["question"] == "numbers"
    assert (turn["turn"], turn["answer"], turn["items"]) == (number, done.json["answer"], done.json["added"])
    assert turn["usage"] == done.json["usage"]


def test_a_question_carries_who_asks_and_data(program: Program, tmp_path: Path) -> None:
    (tmp_path / "more.json").write_text('{"tags": ["a", 1], "tenant": "from the file"}')
    data = "--data", "tenant=8", "--data", f"@{tmp_path / 'more.json'}", "--data", "place=a=b"
    session = program("-m", "with data", "--user", "Ada  L.", *data, "--json").json["session_id"]
    history = program("history", session, "--json").json
    turn = history["turns"][-1]
    assert history["owner"] == turn["user"] == "Ada L."
    assert turn["context"] == {"tenant": "from the file", "tags": ["a", 1], "place": "a=b"}


def test_who_asks_is_the_user_of_this_machine_where_the_engine_is(program: Program, warm: Warm) -> None:
    program("-s", warm.id, "-q", "-m", "by whom?")
    by_the_system = program("history", warm.id, "--json").json["turns"][-1]["user"]
    assert by_the_system == ("" if "FLAME_ENDPOINT" in program.environment else getpass.getuser())
    bobs = program.having(FLAME_AGENT_USER="bob of the turns")("-m", "by whom?", "--json").json["session_id"]
    assert program("history", bobs, "--json").json["turns"][-1]["user"] == "bob of the turns"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("tenant", "--data is NAME=TEXT, or @ and a file with a JSON object, not 'tenant'."),
        ("=7", "--data is NAME=TEXT, or @ and a file with a JSON object, not '=7'."),
        ("@missing.json", "The data's file missing.json cannot be read: No such file or directory."),
        ("@list.json", "The data's file list.json has no JSON object."),
        ("@broken.json", "The data's file broken.json is not JSON: "),
        ("@nan.json", "The data's file nan.json is not JSON: "),
        ("@.", "The data's file . cannot be read: Is a directory."),
    ],
)
def test_data_that_are_no_json_object_are_named_and_nothing_is_asked(
    program: Program, warm: Warm, tmp_path: Path, data: str, said: str
) -> None:
    for name, text in {"list": "[1]", "broken": "{", "nan": '{"a": NaN}'}.items():
        (tmp_path / f"{name}.json").write_text(text)
    before = _numbers(warm, program)
    done = ended(program.start("-s", warm.id, "-m", "no", "--data", data, cwd=tmp_path), code=2)
    assert done.err.startswith(said) and done.err.count("\n") == 1
    assert _numbers(warm, program) == before


def test_a_question_comes_from_standard_input(program: Program, warm: Warm) -> None:
    said = program("-s", warm.id, "-q", "-m", "-", input="first line\nsecond line\n").out
    assert said.endswith(": first line\nsecond line\n")


def test_bytes_that_are_no_text_are_asked_all_the_same(program: Program, warm: Warm) -> None:
    assert program("-s", warm.id, "-q", "-m", b"caf\xe9 \xed\xa0\x80").out.endswith("\n")
    said = program("-s", warm.id, "-q", "-m", "-", input="caf\udce9")
    assert (said.out.split(": ")[1], said.err) == ("caf\ufffd\n", "")


def test_what_tools_said_is_shown_and_folded(program: Program, warm: Warm, model: ModelServer) -> None:
    model.steps.append(Step(calls=(Call("no_such_tool", json.dumps({"text": "x" * 700}), id="call_long"),)))
    said = program("-s", warm.id, "-m", "use it").out
    assert re.search(r'^\* call       no_such_tool\({"text": "x+ … \(\d+ more characters\)$', said, re.MULTILINE)
    assert "\n* result     Tool 'no_such_tool' not found." in said


def test_a_turn_that_fails_adds_nothing_and_prints_both(program: Program, warm: Warm, model: ModelServer) -> None:
    before = program("history", warm.id, "--json").json
    bad: list[tuple[Step, str]] = [
        (Step(status=401, body='{"error": {"message": "no"}}'), "key"),
        (Step(body="<html>no model here</html>", content_type="text/html"), "model"),
        (Step(choices=False), "model"),
        (Step(text="half of an answer that breaks off", broken="length"), "model"),
    ]
    for step, word in bad:
        model.steps.extend([step] * 4)  # those that are tried again are as bad
        failed = program("-s", warm.id, "-m", "please", "--json", code=1)
        model.steps.clear()
        assert failed.json["status"] == "failed" and failed.json["added"] == []
        assert failed.error["code"] == "model"
        assert word in failed.error["message"].lower(), failed.error
        assert "othing was added" in failed.error["message"]
    after = program("history", warm.id, "--json").json
    failures = after.pop("failures")[len(before.pop("failures")) :]
    assert [failure["question"] for failure in failures] == ["please"] * len(bad)
    assert after == before


def test_a_server_that_wants_patience_or_fails_is_named(program: Program, warm: Warm, model: ModelServer) -> None:
    for status in (429, 500):
        model.script = lambda _, status=status: Step(  # type: ignore[misc]
            status=status, body='{"error": {"message": "not now"}}', headers={"Retry-After-Ms": "10"}
        )
        failed = program("-s", warm.id, "-m", "please", code=1)
        assert failed.out == ""
        assert "127.0.0.1" in failed.err and "othing was added." in failed.err


def test_two_questions_at_once_in_one_session_are_both_answered(program: Program, warm: Warm) -> None:
    before = _numbers(warm, program)
    runs = [program.start("-s", warm.id, "-q", "-m", f"at once {n}") for n in (1, 2)]
    answers = sorted(ended(run).out for run in runs)
    turns = program("history", warm.id, "--json").json["turns"][before:]
    assert sorted(turn["question"] for turn in turns) == ["at once 1", "at once 2"]
    assert answers == sorted(f"answer {turn['turn']}: {turn['question']}\n" for turn in turns)


def test_five_sessions_are_answered_in_parallel(program: Program, model: ModelServer) -> None:
    together = threading.Barrier(5, timeout=PATIENCE)

    def when_all_are_there(request: dict[str, Any]) -> Step:
        together.wait()  # raises where not all five are asked at the same time
        return echo(request)

    model.script = when_all_are_there
    runs = [program.start("-q", "-m", f"I am {n}") for n in range(5)]
    assert [ended(run).out for run in runs] == [f"answer 1: I am {n}\n" for n in range(5)]


def test_options_set_for_one_turn_what_variables_set_for_all(embedded: Program, model: ModelServer) -> None:
    asked, embedded = len(model.requests), embedded.having(AGENT_SUMMARY="off", AGENT_MEMORY="off")
    said = embedded("-m", "who am I?", "--base-url", model.url, "--history", "4", "--json").json
    for number in range(4):
        embedded("-s", said["session_id"], "-q", "-m", f"question {number}", "--history", "4", "--api", "responses")
    paths = [request.path for request in model.requests[asked:]]
    assert paths == ["/v1/chat/completions", *["/v1/responses"] * 4]
    assert len(model.requests[-1].json["input"]) <= 5
    assert "--api is chat or responses" in embedded("-m", "hello", "--api", "soap", code=2).err
    assert "--model-timeout is a number" in embedded("-m", "hello", "--model-timeout", "0", code=2).err
    assert "--history is a number above 0 or all" in embedded("-m", "hello", "--history", "0", code=2).err
    elsewhere = embedded.having(FLAME_ENDPOINT="http://127.0.0.1:9")
    assert "AGENT_API" in elsewhere("-m", "hello", "--api", "chat", code=2).err


def test_every_command_that_asks_takes_the_options_of_a_turn(embedded: Program, model: ModelServer) -> None:
    elsewhere = embedded.having(OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    there = ("--base-url", model.url, "--api", "responses", "--history", "4", "--model-timeout", "30")
    assert elsewhere("chat", "-q", *there, input="who am I?\n").out == "answer 1: who am I?\n"
    assert model.requests[-1].path == "/v1/responses"
    session = embedded("sessions", "--limit", "1", "--json").json[0]["session_id"]
    assert elsewhere("retry", session, "-q", *there).out == "answer 1: who am I?\n"
    assert model.requests[-1].path == "/v1/responses"
    on_a_cluster = embedded.having(FLAME_ENDPOINT="http://127.0.0.1:9")
    before = embedded("sessions", "--json").json
    assert embedded("chat", "--base-url", "nonsense", input="hello\n", code=2).err == (
        "--base-url is an address such as https://api.openai.com/v1, not 'nonsense'.\n"
    )
    assert embedded("sessions", "--json").json == before
    for command in (["chat"], ["retry", "X"], ["approve", "X"], ["reject", "X"]):
        assert "--api is chat or responses" in embedded(*command, "--api", "soap", code=2).err
        refused = on_a_cluster(*command, "--model-timeout", "5", code=2)
        assert refused.err == "On a cluster these are set where its executor managers run: AGENT_MODEL_TIMEOUT.\n"


def test_the_settings_of_the_shell_count_from_the_next_turn_on(embedded: Program, model: ModelServer) -> None:
    first = embedded("-m", "who am I?", "--json").json
    assert model.requests[-1].headers["authorization"] == "Bearer first-key"
    changed = embedded.having(OPENAI_API_KEY="second-key", AGENT_MODEL="another-model")
    second = changed("-s", first["session_id"], "-m", "and now?", "--json").json
    assert model.requests[-1].headers["authorization"] == "Bearer second-key"
    assert (second["turn"], second["model"], model.bodies[-1]["model"]) == (2, "another-model", "another-model")
    third = embedded("-c", "-m", "and now?", "--json", "--model", "asked-for").json
    assert (third["turn"], third["model"]) == (3, "asked-for")
    unset = embedded.having(OPENAI_API_KEY=None, OPENAI_BASE_URL=None)
    refused = unset("-c", "-m", "and now?", code=1)
    assert "This conversation was answered by asked-for, and no key is set for it now" in refused.err


def test_on_a_terminal_a_streamed_answer_stands_there_once_and_earlier_ones_are_short(
    embedded: Program, model: ModelServer
) -> None:
    seen = embedded.having(TERM="xterm-256color", NO_COLOR="1")
    long = "\n\n".join(f"Paragraph **{n}** of `many`." for n in range(9))
    model.script = lambda request: Step(text=long)
    first = Terminal(seen, "-m", "tell me", columns=60).ended()
    session = re.findall(r"Session History \((.*)\)", first)[0]
    assert first.count("Paragraph 8 of many.") == 1
    assert f"({session})\n* user       tell me\n* assistant  (the answer above)\n" in first

    model.script = lambda request: Step(text="**Short** now.")
    second = Terminal(seen, "-s", session, "-m", "and again", columns=60).ended()
    assert second == (
        "Short now.\n"
        "\n"
        f"Session History ({session})\n"
        "  user       tell me\n"
        "  assistant  Paragraph 0 of many.\n"
        "             Paragraph 1 of many. … (196 more characters)\n"
        "* user       and again\n"
        "* assistant  (the answer above)\n"
        "Answered by gpt-5.6-luna.\n"
        f'Go on: uv run client.py -s {session} -m "…"\n'
    )

    whole = Terminal(seen, "-s", session, "--no-stream", "-m", "and whole", columns=60).ended()
    assert "* assistant  **Short** now.\n" in whole and "  assistant  Paragraph **0** of `many`.\n" in whole
    assert "answer above" not in embedded("-s", session, "-m", "in a pipe").out
