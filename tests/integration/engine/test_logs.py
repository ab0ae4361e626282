"""The logs of instances, kept and told apart."""

from __future__ import annotations

import os
from pathlib import Path

from localflame.instance import logs


def _written(folder: Path, executor: str, at: int, session: str = "") -> None:
    for ending in ("out", "err"):
        (folder / f"{executor}.{ending}").write_text(executor)
    if session:
        logs.note_session(folder, executor, session)
    for path in folder.glob(f"{executor}.*"):
        os.utime(path, (at, at))


def test_a_log_is_of_the_session_that_was_noted_and_of_none_otherwise(tmp_path: Path) -> None:
    _written(tmp_path, "b", 2, "a session\nwith two lines")
    _written(tmp_path, "a", 1, "first")
    _written(tmp_path, "unused", 3)
    logs.note_session(tmp_path, "did-not-start", "first")
    found = logs.sessions_logs(tmp_path)
    assert [(each.session_id, each.err.name) for each in found] == [
        ("first", "a.err"),
        ("a session\nwith two lines", "b.err"),
    ]


def test_the_logs_that_were_written_last_are_kept_whoever_began_first(tmp_path: Path) -> None:
    (tmp_path / "engine.log").write_text("of the engine")
    for number in range(30):
        _written(tmp_path, f"executor-{number:02}", number + 1, f"session-{number}")
    os.utime(tmp_path / "executor-00.err", (99, 99))  # the oldest one is at work
    logs.drop_old_logs(tmp_path)
    kept = sorted(path.name for path in tmp_path.glob("*.out"))
    assert kept == ["executor-00.out", *(f"executor-{number}.out" for number in range(12, 30))]
    assert len(list(tmp_path.iterdir())) == 3 * (logs.KEPT_LOGS - 1) + 1


def test_the_logs_of_a_session_go_and_those_of_others_stay(tmp_path: Path) -> None:
    for at, executor in enumerate(("a", "b", "c")):
        _written(tmp_path, executor, at, "gone" if executor != "b" else "stays")
    _written(tmp_path, "unused", 9)
    logs.drop_session_logs(tmp_path, "gone")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("b.err", "b.out", "b.session"),
        *("unused.err", "unused.out"),
    ]
