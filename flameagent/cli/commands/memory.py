"""The commands about what the agent remembers of a person: listed, searched, forgotten, taken elsewhere, erased."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from flameagent import files
from flameagent.cli.commands import agreed, done, examples, open_client, open_screen
from flameagent.cli.commands.options import EngineOptions, Json, Output, User, grouped

app = typer.Typer()
memory_app = typer.Typer(
    epilog=examples(
        "uv run client.py memory",
        'uv run client.py memory search "where do I live"',
        "uv run client.py memory forget city",
    )
)
app.add_typer(memory_app, name="memory", short_help="What the agent remembers of you.")

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True)
class PersonOptions:
    """Whose memory a command is about, and how that is printed."""

    user: User = None
    as_json: Json = False


@memory_app.callback(invoke_without_command=True)
@grouped
def memory(context: typer.Context, *, person: PersonOptions, engine: EngineOptions) -> None:
    """What the agent remembers of a person over all their sessions; without a command, `list`.

    It is kept for each agent and user. The user is who would ask: --user, FLAME_AGENT_USER, or on the embedded engine
    who is logged in.
    """
    if context.invoked_subcommand is None:
        _list(person, engine)


@memory_app.command("list", short_help="List the facts.", epilog=examples("uv run client.py memory list --json"))
@grouped
def list_(*, person: PersonOptions, engine: EngineOptions) -> None:
    """List the facts that the agent has learned of a person, with when and where, and how many turns it remembers."""
    _list(person, engine)


def _list(person: PersonOptions, engine: EngineOptions) -> None:
    from flameagent.cli.terminal import remembered

    screen = open_screen(as_json=person.as_json)
    with open_client(engine, user=person.user) as client:
        remembered.facts(screen, client.memory())


@memory_app.command(
    short_help="Search what was said.", epilog=examples('uv run client.py memory search "where do I live" -n 3')
)
@grouped
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Words that were probably used, names, a day.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="At most N turns.")] = 10,
    *,
    person: PersonOptions,
    engine: EngineOptions,
) -> None:
    """Search the turns of all sessions of a person, and show those that fit best, the best first."""
    from flameagent.cli.terminal import remembered

    screen = open_screen(as_json=person.as_json)
    with open_client(engine, user=person.user) as client:
        kept = client.memory()
        remembered.found(screen, kept.search(text, limit), kept.note)


@memory_app.command(short_help="Forget a fact.", epilog=examples("uv run client.py memory forget city"))
@grouped
def forget(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The fact's key, as `memory` lists it.")],
    yes: Yes = False,
    *,
    person: PersonOptions,
    engine: EngineOptions,
) -> None:
    """Forget a fact, with what it took the place of, in every conversation of a person. Asks first.

    The turns in which it was learned stay.
    """
    from flameagent.cli.terminal import remembered

    screen = open_screen(as_json=person.as_json)
    with open_client(engine, user=person.user) as client:
        kept = client.memory()
        if not yes and not agreed(screen, "forget", f"Forget {key} of {kept.user}?"):
            screen.text("Nothing was forgotten.")
            return
        sessions = kept.forget(key)
    with done("" if sessions is None else f"Forgot {key}", ""):
        remembered.forgot(screen, key, sessions)


@memory_app.command(short_help="Write it to a file.", epilog=examples("uv run client.py memory export -o ada.json"))
@grouped
def export(
    output: Output = None,
    *,
    person: PersonOptions,
    engine: EngineOptions,
) -> None:
    """Write all that is remembered of a person as JSON: the facts, and the turns with where they were said."""
    from flameagent.transcript import export as exports
    from flameagent.transcript import wording

    screen = open_screen(as_json=person.as_json)
    with open_client(engine, user=person.user) as client:
        found = client.memory().export()
    if output is None or files.is_standard_output(output):
        screen.data(found)
        return
    exports.save(json.dumps(found, ensure_ascii=False, indent=1) + "\n", output)
    said = f"Wrote {output}, {wording.turns(len(found['turns']))}"
    with done(said, ""):
        if screen.as_json:
            screen.data({"file": str(output), "turns": len(found["turns"])})
        else:
            screen.text(f"{said}.")


@memory_app.command(
    "import", short_help="Remember what was exported.", epilog=examples("uv run client.py memory import ada.json")
)
@grouped
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `memory export` wrote; `-` is standard input.")],
    *,
    person: PersonOptions,
    engine: EngineOptions,
) -> None:
    """Remember of a person what was exported, on this engine or another. What is known already stays as it is."""
    from flameagent.client import memory as memories
    from flameagent.transcript import export as exports
    from flameagent.transcript import wording

    screen = open_screen(as_json=person.as_json)
    exported = memories.read(exports.content(file), str(file))
    with open_client(engine, user=person.user) as client:
        kept = client.memory()
        new = kept.restore(exported)
    known = len(exported.turns) - new
    said = f"Remembered {wording.turns(new)} of {kept.user}" + (f"; {known} were known" if known else "")
    with done(said, ""):
        if screen.as_json:
            screen.data({"user": kept.user, "turns": new, "known": known})
        else:
            screen.text(f"{said}.")


@memory_app.command(
    short_help="Erase all of a person.",
    epilog=examples("uv run client.py memory erase", "uv run client.py memory erase --user ada --sessions --yes"),
)
@grouped
def erase(
    sessions: Annotated[bool, typer.Option("--sessions", help="Delete all sessions that are theirs, too.")] = False,
    yes: Yes = False,
    *,
    person: PersonOptions,
    engine: EngineOptions,
) -> None:
    """Erase all that is remembered of a person, and the facts in their conversations, whose turns stay. Asks first.

    Nothing from before is remembered again. An erasure that was broken off is done by the same command again. With
    --sessions the lines go, too, that were typed in chats here.
    """
    from flameagent.cli.terminal import remembered
    from flameagent.cli.terminal.line_input import forget_lines

    screen = open_screen(as_json=person.as_json)
    with open_client(engine, user=person.user) as client:
        kept = client.memory()
        what = "and all their sessions" if sessions else "and the facts in their conversations"
        if not yes and not agreed(screen, "erase", f"Erase all that is remembered of {kept.user}, {what}, for good?"):
            screen.text("Nothing was erased.")
            return
        what_went = kept.erase(sessions)
        if sessions:
            forget_lines()
    with done(f"Erased what was remembered of {what_went.user}", ""):
        remembered.erased(screen, what_went)
