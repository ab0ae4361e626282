"""The command line itself: usage, help, terminals and pipes."""

from __future__ import annotations

import re
import subprocess
import sys
import threading

from tests.acceptance.conftest import Warm
from tests.acceptance.program import PATIENCE, ROOT, Program, ended, eventually, together
from tests.acceptance.terminal import Terminal, on_a_terminal
from tests.support.model_server import ModelServer, Step, echo

_USAGE = (
    (["-m", ""], "The message is empty; nothing was asked."),
    (["-m", " \n"], "The message is empty; nothing was asked."),
    (["-m", "-"], "The message is empty; nothing was asked."),
    (["-s", "x", "-c", "-m", "hi"], "-s and -c both name a session: give one of them."),
    (["-s", "x", "--prompt", "y", "-m", "hi"], "A prompt is for a new session; this one has its own"),
    (
        ["-m", "hi", "--prompt", "@/no/such/file"],
        "The prompt's file /no/such/file cannot be read: No such file or directory.\n",
    ),
    (["-m", "hi", "--timeout", "0"], "--timeout is a number of seconds above 0."),
    (["-m", "hi", "--timeout", "nan"], "--timeout is a number of seconds above 0."),
    (["-s", "x", "--model", "y"], 'There is no question: give one with -m "…".'),
    (["-s", "x", "--steer"], 'There is no question: give one with -m "…".'),
    (["--steer", "-m", "hi"], "--steer is about a turn that runs: name its session with -s or -c."),
    (["--interrupt", "-m", "hi"], "--interrupt is about a turn that runs: name its session with -s or -c."),
    (["-s", "x", "--steer", "--interrupt", "-m", "hi"], "--steer and --interrupt exclude each other"),
    (
        ["-m", "hi", "sessions"],
        "Of the options only --app, --endpoint, --cache-endpoint and --ca-file can stand before `sessions`",
    ),
    (
        ["--endpoint", "http://127.0.0.1:1", "engine", "status"],
        "`engine` is the embedded one: it takes no --app, --endpoint, --cache-endpoint or --ca-file.",
    ),
    (
        ["--app", "agent", "new", "desk"],
        "`new` asks nobody: it takes no --app, --endpoint, --cache-endpoint or --ca-file.",
    ),
)


def test_usage_errors_are_sentences(embedded: Program) -> None:
    for (_, said), ran in zip(_USAGE, together(embedded, *(run for run, _ in _USAGE), code=2), strict=True):
        assert ran.out == "" and ran.err.startswith(said) and ran.err.count("\n") == 1
    framed = (["--nonsense"], ["nonsense"], ["history"], ["-m"], ["engine", "nonsense"], ["--timeout", "x"])
    for ran in together(embedded, *framed, code=2):
        assert ran.out == "" and "Error" in ran.err


def test_usage_errors_are_json_where_json_is_wanted(embedded: Program) -> None:
    empty, both, missing = together(
        embedded, ["-m", "", "--json"], ["-s", "x", "-c", "-m", "y", "--json"], ["history", "--json"], code=2
    )
    assert empty.error == {"code": "usage", "message": "The message is empty; nothing was asked."}
    assert both.error["code"] == "usage"
    assert missing.error == {"code": "usage", "message": "Missing argument 'ID'."}


def test_a_message_that_flame_cannot_take_is_refused_before_anything_is_made(embedded: Program) -> None:
    before = embedded("sessions", "--json").json
    too_long = embedded("-m", "-", input="x" * 5_000_000, code=2)
    assert too_long.err == "The message is too long for Flame, which takes 3.9 MB; nothing was asked.\n"
    assert embedded("sessions", "--json").json == before


def test_help_says_how_with_examples(embedded: Program) -> None:
    pages: tuple[list[str], ...] = (
        [],
        ["sessions"],
        ["history"],
        ["close"],
        ["approve"],
        ["reject"],
        ["chat"],
        ["status"],
        ["engine"],
        ["engine", "logs"],
    )
    for shown in together(embedded, *([*page, "--help"] for page in pages), code=0):
        assert "uv run client.py" in shown.out and "Example" in shown.out and shown.err == ""
        assert not re.search(r"<[a-z]", shown.out)  # a type, as typer has it: <bool>
    assert embedded(code=2).out == embedded("--help").out
    assert embedded("--version").out.strip().count(".") == 2


def test_the_client_never_loads_what_it_does_not_need(embedded: Program) -> None:
    for arguments, allowed in ((["--help"], set()), (["sessions"], {"grpc", "msgspec"})):
        ran = subprocess.run(
            [sys.executable, "-X", "importtime", str(ROOT / "client.py"), *arguments],
            env=embedded.environment,
            capture_output=True,
            text=True,
        )
        loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in ran.stderr.splitlines()}
        heavy = {"grpc", "pyarrow", "msgspec", "agents", "openai", "mcp", "pydantic", "fastapi"}
        assert ran.returncode == 0 and loaded & heavy == allowed


def test_a_reader_that_goes_away_is_no_error(program: Program, warm: Warm) -> None:
    run = program.start("history", warm.id, stderr=subprocess.PIPE)
    assert run.stdout is not None
    run.stdout.close()
    run.wait(PATIENCE)
    assert run.stderr is not None and run.stderr.read() == ""


def test_a_terminal_gets_colour_and_a_spinner_and_no_control_characters(
    program: Program, warm: Warm, model: ModelServer
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J[bold]not markup[/bold] \x9b31m :smile: \u202e7\u202c"
    let = threading.Event()

    def slowly(request: dict[str, object]) -> Step:
        let.wait(PATIENCE)
        return Step(text=evil)

    model.script = slowly
    terminal = program.having(TERM="xterm-256color")
    waiting = Terminal(terminal, "-s", warm.id, "-m", "be evil")
    eventually(lambda: re.search(r"^\S thinking · \d+ s\n$", waiting.text))  # what happens, and for how long
    let.set()
    assert "thinking" not in waiting.ended() and waiting.text.startswith("␛]0;owned␇")
    seen = waiting.raw
    assert "\x1b[32m" in seen  # colour
    assert "␛]0;owned␇␛[2J[bold]not markup[/bold] \\x9b31m :smile: \\u202e7\\u202c" in seen
    assert "\x1b]0;owned" not in seen and not {"\x9b", "\u202e"} & set(seen)

    model.script = echo
    plain = on_a_terminal(terminal.having(NO_COLOR="1"), "-s", warm.id, "-m", "no colour")
    assert "\x1b[32m" not in plain and "no colour" in plain
    assert "\x1b[" not in on_a_terminal(terminal.having(TERM="dumb"), "history", warm.id)
    assert "\x1b[32m" in on_a_terminal(terminal, "history", warm.id)


def test_a_pipe_gets_what_was_said_and_nothing_else(program: Program, warm: Warm, model: ModelServer) -> None:
    model.script = lambda request: Step(text="\x1b[1mraw\x1b[0m", delay=0.5)
    piped = program.having(TERM="xterm-256color")("-s", warm.id, "-m", "be raw")
    assert piped.out.startswith("\x1b[1mraw\x1b[0m\n\nSession History (")
    assert piped.out.endswith("* user       be raw\n* assistant  \x1b[1mraw\x1b[0m\n")
    assert "\x1b[32m" not in piped.out and "\x1b" not in piped.err and "thinking" not in piped.err

    forced = program.having(FORCE_COLOR="1", TERM="xterm-256color")
    coloured = forced("-s", warm.id, "-m", "be raw")
    assert coloured.out.startswith("␛[1mraw␛[0m\n\n\x1b[1mSession History (")
    assert coloured.out.endswith("\x1b[36m* user       \x1b[0mbe raw\n\x1b[32m* assistant  \x1b[0m␛[1mraw␛[0m\n")
    assert "thinking" not in coloured.err
    assert forced("-s", warm.id, "-q", "-m", "be raw").out == "\x1b[1mraw\x1b[0m\n"
    assert forced.having(NO_COLOR="1")("history", warm.id).out.count("\x1b[36m") == 0


def test_an_encoding_that_lacks_characters_is_no_error(program: Program, warm: Warm) -> None:
    ascii_only = program.having(PYTHONIOENCODING="ascii", PYTHONUTF8="0", LANG="C")
    assert ascii_only("-s", warm.id, "-q", "-m", "caf\u00e9 \U0001f525").out.endswith(": caf\\xe9 \\U0001f525\n")


def test_a_timeout_says_how_to_look(program: Program, warm: Warm, model: ModelServer) -> None:
    let = threading.Event()

    def slowly(request: dict[str, object]) -> Step:
        let.wait(PATIENCE)
        return echo(request)

    model.script = slowly
    late = program("-s", warm.id, "-m", "in time?", "--timeout", "0.5", code=7)
    assert (late.out, late.err) == (
        "",
        "No answer within 0.5 s. The turn may still finish.\n"
        f"Look before asking again: uv run client.py history {warm.id}\n",
    )
    machine = ended(program.start("-s", warm.id, "-m", "and now?", "--timeout", "0.5", "--json"), code=7)
    assert (machine.out, machine.error["code"], machine.error["session_id"]) == ("", "timeout", warm.id)
    let.set()
    eventually(lambda: "answer" in program("history", warm.id).out.partition("and now?")[2])


def test_the_page_of_commands_is_up_to_date() -> None:
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "typer",
            "flameagent.cli.app",
            "utils",
            "docs",
            "--name",
            "uv run client.py",
            "--title",
            "Commands",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert page == made.stdout.rstrip("\n") + "\n", (
        'run: uv run typer flameagent.cli.app utils docs --name "uv run client.py" --title Commands '
        "--output docs/commands.md"
    )
