"""The settings file: under the environment and the options, and mended by the sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import Warm
from tests.acceptance.program import Program, together
from tests.support.model_server import ModelServer


@pytest.fixture
def user(embedded: Program, tmp_path: Path) -> Program:
    """A user with a home of their own, without settings yet."""
    program = embedded.having(HOME=str(tmp_path))
    program.settings.parent.mkdir(parents=True)
    return program


def test_a_file_sets_what_nothing_else_does(user: Program, warm_here: Warm, model: ModelServer) -> None:
    file = user.settings
    file.write_text(f'model = "from-file"\nhistory = 4\nstream = false\nbase_url = "{model.url}"\n')
    keyed = user.having(OPENAI_BASE_URL=None)
    assert keyed("status").out.endswith(
        "model           from-file (OPENAI_API_KEY)\n"
        "\n"
        "Settings\n"
        "model           from-file (settings file)\n"
        f"base_url        {model.url} (settings file)\n"
        "api             chat (default)\n"
        "history         4 (settings file)\n"
        "model_timeout   120 (default)\n"
        "timeout         330 (default)\n"
        "stream          false (settings file)\n"
        "OPENAI_API_KEY  set\n"
        f"settings file   {file}\n"
    )
    assert keyed("-s", warm_here.id, "-m", "who answers?", "--json").json["model"] == "from-file"
    exported = user.having(AGENT_MODEL="from-shell")("status").out
    assert "model           from-shell (OPENAI_API_KEY)\n" in exported
    assert "model           from-shell (AGENT_MODEL)\n" in exported
    assert keyed("-s", warm_here.id, "-m", "and now?", "--json", "--model", "named").json["model"] == "named"

    file.write_text('endpoint = "http://127.0.0.1:1"\ntimeout = 0.25\n')
    assert "\nendpoint        http://127.0.0.1:1 (settings file)\n" in (told := user("status").out)
    assert "\ntimeout         0.25 (settings file)\n" in told
    assert user("engine", "status").out.startswith("The embedded engine of")


def test_a_file_that_makes_no_sense_names_what_to_mend(user: Program) -> None:
    file = user.settings
    for text, said in (
        ("model = gpt", f"The settings in {file} are not TOML: "),
        ('modell = "x"', f"{file}: there is no setting modell. Did you mean model?\n"),
        ('colour = "x"', f"{file}: there is no setting colour. These are: model, base_url, "),
        ("model = 3", f"{file}: model is a text in quotes, not 3.\n"),
        ('timeout = "long"', f"{file}: timeout is a number, not 'long'.\n"),
        ("stream = 1", f"{file}: stream is true or false, not 1.\n"),
        (f"model = {'[' * 10_000}", f"The settings in {file} are not TOML: "),
        (f"model = {'{a = ' * 5000}1{'}' * 5000}", f"The settings in {file} are not TOML: "),
        (f"history = {'9' * 5000}", f"The settings in {file} are not TOML: "),
        (f"history = 0x{'f' * 5000}", f"{file}: history is a number of thousands of digits.\n"),
        (f"{'a.' * 30_000}b = 1", f"The settings in {file} are not TOML: they are too long, or a key has too many"),
        (f"[{'a . ' * 5_000}b]", f"The settings in {file} are not TOML: they are too long, or a key has too many"),
        ("model = 'x'\n" * 9000, f"The settings in {file} are not TOML: they are too long, or a key has too many"),
        (f"model = {list(range(900))}", f"{file}: model is a text in quotes, not [0, 1, 2, "),
    ):
        file.write_text(text)
        failed = user("sessions", code=2)
        assert failed.out == "" and failed.err.startswith(said) and failed.err.count("\n") == 1
    assert user("status", "--json", code=2).error["code"] == "usage"
    file.write_bytes(b"model = '\xff'")
    assert user("sessions", code=2).err.startswith(
        f"The settings in {file} cannot be read: 'utf-8' codec can't decode"
    )
    file.unlink()
    file.mkdir()
    said = f"The settings in {file} cannot be read: Is a directory.\n"
    assert user("sessions", code=2).err == said
    assert f"problem         {said}" in user("status", code=2).out
    file.rmdir()
    wrong = user.having(FLAME_AGENT_TIMEOUT="soon")
    assert wrong("-m", "hi", code=2).err == "FLAME_AGENT_TIMEOUT is a number of seconds, not 'soon'.\n"
    wrong = user.having(FLAME_AGENT_STREAM="false")
    assert wrong("-m", "hi", code=2).err == "FLAME_AGENT_STREAM is 1 or 0, not 'false'.\n"


def test_what_is_nearly_right_is_guessed(user: Program, warm_here: Warm) -> None:
    command, inner, question, option = together(
        user, ["sesions"], ["rename", "x", "y"], ["who are you?"], ["--mesage", "x"], code=2
    )
    assert "Did you mean 'sessions'?" in command.err
    assert "Did you mean 'sessions rename'?" in inner.err
    assert 'To ask that: uv run client.py -m "who are you?"' in " ".join(question.err.replace("│", " ").split())
    assert "--message" in option.err
    typo = warm_here.part[:-1] + ("X" if warm_here.part[-1] != "X" else "Y")
    assert user("history", typo, code=4).err == (
        f"No session of openai-agent has {typo!r} in its ID. Did you mean {warm_here.part}?\n"
    )
    assert user("history", "nothing-like-it", code=4).err.endswith("The command `sessions` lists them.\n")
