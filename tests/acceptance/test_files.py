"""Files as people have them: what `export` writes to, and what other programs saved for whoever reads it."""

from __future__ import annotations

import codecs
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.acceptance.conftest import Warm
from tests.acceptance.program import ROOT, Program, together
from tests.support.model_server import ModelServer, Step

WINDOWS = {
    "a mark and CRLF": lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
    "UTF-16": lambda text: codecs.BOM_UTF16_LE + text.replace("\n", "\r\n").encode("utf-16-le"),
    "UTF-16, the other way round": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "CR alone": lambda text: text.replace("\n", "\r").encode(),
}
PICTURE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


@pytest.fixture
def user(embedded: Program, tmp_path: Path) -> Program:
    """Somebody with a home of their own, where the program runs."""
    return embedded.having(HOME=str(tmp_path))


def in_bash(program: Program, line: str) -> subprocess.CompletedProcess[str]:
    """A line for a shell in which `agent` is the client."""
    script = f'agent() {{ "{sys.executable}" "{ROOT / "client.py"}" "$@"; }}\n{line}'
    home = program.environment["HOME"]
    return subprocess.run(["bash", "-c", script], env=program.environment, cwd=home, capture_output=True, text=True)


def test_an_export_goes_where_the_name_leads(user: Program, warm_here: Warm, tmp_path: Path) -> None:
    export = ["export", warm_here.id, "-o"]
    whole = user(*export[:2]).out
    said = f"# who are you?\n\nSession {warm_here.id}, "
    assert whole.startswith(said)
    secret, link, other = tmp_path / "secret.md", tmp_path / "link.md", tmp_path / "other.md"
    secret.write_text("before")
    secret.chmod(0o600)
    link.symlink_to("secret.md")
    other.hardlink_to(secret)
    assert user(*export, "link.md").out.startswith("Wrote link.md, ")
    assert secret.read_text() == other.read_text() == whole
    assert link.is_symlink() and stat.S_IMODE(secret.stat().st_mode) == 0o600

    (tmp_path / "dangling").symlink_to("made.md")
    user(*export, "dangling")
    assert (tmp_path / "made.md").read_text() == whole and (tmp_path / "dangling").is_symlink()
    assert user(*export, "-").out == user(*export, "/dev/stdout").out == whole
    folder = user(*export, ".", code=2)
    assert (folder.out, folder.err) == ("", ". cannot be written: Is a directory.\n")
    assert {path.name for path in tmp_path.glob("*.md")} == {"secret.md", "link.md", "other.md", "made.md"}


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_an_export_goes_through_pipes(user: Program, warm_here: Warm, tmp_path: Path) -> None:
    whole = user("export", warm_here.id).out
    os.mkfifo(tmp_path / "pipe")
    for line in (
        f"agent export {warm_here.id} -o >(cat > through); wait; sleep 0.1; cat through",
        f"agent export {warm_here.id} -o pipe >&2 & cat pipe; wait",
        f"echo before > file; agent export {warm_here.id} -o /dev/stdout >> file; grep -v before file",
        f"agent export {warm_here.id} -o >(head -c 1 > /dev/null) > /dev/null; agent export {warm_here.id}",
    ):
        ran = in_bash(user, line)
        assert ran.returncode == 0 and re.sub(r"\AWrote /dev/fd/63, \d+ turns?\.\n", "", ran.stdout) == whole, line
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_an_export_replaces_no_device(user: Program, warm_here: Warm, tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_bytes(b"")
    except PermissionError:
        pytest.skip("this file system takes no devices")
    user("export", warm_here.id, "-o", "null")
    assert stat.S_ISCHR(device.stat().st_mode)


def test_no_answer_reaches_into_another_turn(user: Program, model: ModelServer) -> None:
    model.steps += [
        Step(text="See:\n\n```python\nprint(1)"),
        Step(text="## Turn 9\n\n[x]: /y"),
        Step(text="[x] and <!--"),
    ]
    asked = user("chat", "-q", input="one\n<!--\nthree\n# four\n")
    assert asked.out.startswith("See:\n")
    session = user("sessions", "--limit", "1", "--json").json[0]["session_id"]
    tokens = MarkdownIt("commonmark").parse(user("export", session).out)
    titles = [tokens[at + 1].content for at, token in enumerate(tokens) if token.tag == "h2" and token.nesting == 1]
    assert [title.split(" · ")[0] for title in titles] == ["Turn 1", "Turn 2", "Turn 3", "Turn 4"]
    said = [token.content for token in tokens if token.type in ("inline", "fence") and "Turn " not in token.content]
    assert {"print(1)\n", "[x] and <!--", "one", "three", "four"} <= {*said}


@pytest.mark.parametrize("saved", WINDOWS)
def test_what_windows_touched_is_read(user: Program, warm_here: Warm, tmp_path: Path, saved: str) -> None:
    save, file, folder = WINDOWS[saved], tmp_path / "talk.json", tmp_path / ".flame"
    file.write_bytes(save(user("export", warm_here.id, "-f", "json").out))
    assert user("import", "talk.json").out.startswith("Imported ")
    with file.open("rb") as stream:
        ran = user.start("import", "-", "-q", stdin=stream)
        assert ran.communicate()[0].startswith("openai-agent-")

    (tmp_path / "prompt.txt").write_bytes(save("Be brief.\nAnd kind. é\n"))
    (tmp_path / "question.txt").write_bytes(save("one é\ntwo\n"))
    with (tmp_path / "question.txt").open("rb") as stream:
        ran = user.start("--prompt", "@prompt.txt", "--json", "-m", "-", stdin=stream)
        answered = json.loads(ran.communicate()[0])
    assert answered["answer"] == "answer 1: one é\ntwo"
    assert user("history", answered["session_id"], "--json").json["prompt"] == "Be brief.\nAnd kind. é\n"
    with (tmp_path / "question.txt").open("rb") as stream:
        ran = user.start("chat", "-q", "-s", answered["session_id"], stdin=stream)
        assert ran.communicate()[0] == "answer 2: one é\nanswer 3: two\n"

    user.settings.parent.mkdir(parents=True)
    user.settings.write_bytes(save('# é\nmodel = "gpt"\nhistory = 4\n'))
    folder.mkdir()
    contexts = "contexts:\n- name: here\n  cluster:\n    endpoint: http://127.0.0.1:1\n"
    (folder / "flame.yaml").write_bytes(save(f"# é\ncurrent-context: here\n{contexts}"))
    settings = user("status", "--json").json
    assert settings["endpoint"] == "http://127.0.0.1:1"
    assert user.having(FLAME_ENDPOINT="http://127.0.0.1:2\r")("status", "--json").json["endpoint"].endswith(":2")
    assert "history         4 (settings file" in user("status").out


def test_what_is_no_text_is_told_in_a_sentence(user: Program, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(PICTURE)
    user.settings.parent.mkdir(parents=True)
    runs = (["import", "picture"], ["-m", "x", "--prompt", "@picture"])
    for ran in together(user, *runs, code=2):
        assert ran.out == "" and "picture" in ran.err and ran.err.count("\n") == 1
    with (tmp_path / "picture").open("rb") as stream:
        asked = user.start("-m", "-", stdin=stream)
        out, err = asked.communicate()
    assert (asked.returncode, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("Standard input cannot be asked: it is no text ")
    with (tmp_path / "picture").open("rb") as stream:
        talked = user.start("chat", "-q", stdin=stream)
        out, err = talked.communicate()
    assert (talked.returncode, out) == (2, "") and err.endswith(
        "cannot be asked: it is no text in UTF-8, nor in UTF-16 with a mark of that.\n"
    )
    user.settings.write_bytes(PICTURE)
    (told,) = together(user, ["sessions"], code=2)
    assert told.err.startswith(f"The settings in {user.having(HOME=str(tmp_path)).environment['HOME']}/")
