"""The instance and its worker, as real processes: whatever becomes of a task, the next one works."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.shim import ROOT, Shim, TaskFailed

SERVICE = """
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path
from flameagent.service import FlameInstance

instance = FlameInstance()
runs = Path("runs")

@instance.entrypoint
async def do(what):
    runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
    match what:
        case "exit once" if runs.read_text() == "x": os._exit(7)
        case "exit": os._exit(7)
        case "kill": os.kill(os.getpid(), signal.SIGKILL)
        case "real time": os.kill(os.getpid(), 40)
        case "segfault": ctypes.string_at(0)
        case "memory": bytearray(1 << 60)
        case "raise": raise ValueError("no such luck")
        case "hang": time.sleep(600)
        case "flood": sys.stdout.write("flood " * 500_000)
        case "lines": sys.stdout.write("x\\n" * 1_000_000)
        case "last words": print("I fell over a stone", flush=True); os._exit(7)
        case "child": return subprocess.Popen(["sleep", "600"]).pid
        case "pid": return os.getpid()
    return f"did {what}"
"""


@pytest.fixture
def service(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(SERVICE)
    return tmp_path


def runs(service: Path) -> int:
    return len((service / "runs").read_text())


@pytest.fixture
def instance(service: Path) -> Iterator[Shim]:
    with Shim(service) as shim:
        yield shim.enter()


def wait_until(true: Callable[[], bool], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_tasks_of_a_service_with_its_own_types_run_one_after_the_other(instance: Shim) -> None:
    assert instance.invoke("one") == "did one"
    assert instance.invoke("two", "2") == "did two"


def test_a_worker_that_dies_runs_the_task_again_once(service: Path, instance: Shim) -> None:
    assert instance.invoke("exit once") == "did exit once"
    assert runs(service) == 2


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("exit", "exit code 7"),
        ("kill", "signal SIGKILL"),
        ("segfault", "signal SIGSEGV"),
        ("real time", "signal 40"),  # which has no name
    ],
)
def test_a_worker_that_dies_twice_fails_the_task_with_the_reason_and_the_next_works(
    service: Path, instance: Shim, what: str, how: str
) -> None:
    with pytest.raises(TaskFailed, match=how):
        instance.invoke(what)
    assert runs(service) == 2
    assert instance.invoke("next", "2") == "did next"


def test_workers_that_ended_leave_nothing_open_in_the_instance(instance: Shim) -> None:
    def is_open() -> int:
        return len(list(Path(f"/proc/{instance.process.pid}/fd").iterdir()))

    def another() -> None:
        os.kill(instance.invoke("pid"), signal.SIGKILL)
        assert instance.invoke("one") == "did one"

    another()  # that one was forked, which the first is not
    before = is_open()
    for _ in range(3):
        another()
    wait_until(lambda: is_open() <= before, "what the workers had open is closed")


def test_the_last_words_of_a_worker_are_in_the_reason(instance: Shim) -> None:
    with pytest.raises(TaskFailed, match="I fell over a stone"):
        instance.invoke("last words")


def test_an_exception_fails_the_task_without_running_it_again(service: Path, instance: Shim) -> None:
    with pytest.raises(TaskFailed, match="MemoryError"):
        instance.invoke("memory", "0")
    (service / "runs").unlink()
    with pytest.raises(TaskFailed, match="ValueError: no such luck"):
        instance.invoke("raise")
    assert runs(service) == 1
    assert instance.invoke("next", "2") == "did next"


@pytest.mark.parametrize("flood", ["flood", "lines"])
def test_a_worker_that_floods_its_output_answers_and_the_log_says_what_was_left_out(
    instance: Shim, flood: str
) -> None:
    assert instance.invoke(flood) == f"did {flood}"
    assert instance.invoke("last words of another turn", "2") == "did last words of another turn"
    with pytest.raises(TaskFailed, match="I fell over a stone"):
        instance.invoke("last words", "3")
    log = instance.log.read_text()
    assert len(log) < 1_500_000
    left_out = [int(number) for number in re.findall(r"\[s-1/1\] ([0-9]+) bytes of output were left out here", log)]
    printed = {"flood": 3_000_000, "lines": 2_000_000}[flood]
    assert 0 < sum(left_out) < printed
    assert "[s-1/3] I fell over a stone" in log


def test_a_turn_that_takes_too_long_is_ended_and_the_next_works(service: Path) -> None:
    with Shim(service, AGENT_TIMEOUT="3") as shim:
        shim.enter()
        with pytest.raises(TaskFailed, match="longer than 3 s and was ended"):
            shim.invoke("hang")
        assert runs(service) == 1
        assert shim.invoke("next", "2") == "did next"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", r"\(line 1\) cannot be imported: ModuleNotFoundError: .*no_such_module"),
        ("x = 1\nx.", "cannot be imported: SyntaxError"),
        ("", "agent has no Agent and no FlameInstance"),
        ("import os; os._exit(9)", "exit code 9"),
    ],
)
def test_an_agent_that_cannot_be_imported_fails_each_task_with_the_reason_until_it_is_mended(
    service: Path, source: str, reason: str
) -> None:
    (service / "agent.py").write_text(source)
    with Shim(service) as shim:
        shim.enter()
        for task in "1", "2":
            with pytest.raises(TaskFailed, match=reason):
                shim.invoke("one", task)
        (service / "agent.py").write_text(SERVICE)
        assert shim.invoke("three", "3") == "did three"


def test_changed_code_counts_from_the_next_turn_on(service: Path, instance: Shim) -> None:
    before = instance.invoke("pid")
    assert instance.invoke("pid", "2") == before
    (service / "agent.py").write_text(SERVICE.replace('{what}"', '{what}!"'))
    assert instance.invoke("three", "3") == "did three!"
    assert not alive(before)


def test_changed_code_counts_also_where_the_agent_is_not_in_the_working_directory(
    service: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("logs")
    with Shim(elsewhere, PYTHONPATH=f"{service}:{ROOT}") as shim:
        shim.enter()
        assert shim.invoke("one") == "did one"
        (service / "agent.py").write_text(SERVICE.replace('{what}"', '{what}!"'))
        assert shim.invoke("two", "2") == "did two!"


def test_what_the_agent_prints_is_in_the_log_with_session_and_task(instance: Shim) -> None:
    with pytest.raises(TaskFailed):
        instance.invoke("last words", "17")
    log = instance.log.read_text()
    assert "[s-1/17] I fell over a stone" in log
    assert re.search(r"^\[s-1/17\] failed after \d+\.\d\d s: ", log, re.MULTILINE)


def test_the_log_is_json_where_asked_for(service: Path) -> None:
    with Shim(service, AGENT_LOG="json", AGENT_FORK="on") as shim:
        shim.enter()
        shim.invoke("one", "1")
        with pytest.raises(TaskFailed):
            shim.invoke("last words", "17")
        lines = [json.loads(line) for line in shim.log.read_text().splitlines()]
    assert {(line["session"], line["task"]) for line in lines} == {("s-1", "1"), ("s-1", "17")}
    assert any(line["text"] == "I fell over a stone" for line in lines if line["task"] == "17")
    assert all(re.fullmatch(r"[-0-9]{10}T[:0-9]{8}\.\d{3}\+00:00", line["at"]) for line in lines)


def test_sigterm_ends_instance_worker_and_the_children_of_tools(service: Path, instance: Shim) -> None:
    child = instance.invoke("child")
    family = instance.descendants()
    assert child in family
    instance.terminate()
    assert instance.process.wait(60) == 0
    wait_until(lambda: not any(alive(pid) for pid in family), "descendants outlive the instance")


def test_leaving_the_session_ends_the_worker(instance: Shim) -> None:
    instance.invoke("one")
    family = instance.descendants()
    instance.leave()
    wait_until(lambda: not any(alive(pid) for pid in family), "the worker outlives the session")
    instance.terminate()
    assert instance.process.wait(60) == 0


def test_a_worker_whose_instance_was_killed_ends_by_itself(instance: Shim) -> None:
    child = instance.invoke("child")
    family = instance.descendants()
    os.kill(instance.process.pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in [child, *family]), "the worker outlives its instance")


@pytest.mark.parametrize("behind", ["", "uv"], ids=["directly", "uv"])
def test_an_instance_ends_with_the_engine_that_started_it(service: Path, tmp_path: Path, behind: str) -> None:
    socket, starts = tmp_path / "i.sock", f"{sys.executable} -m flameagent.service agent & echo $! > pid; wait"
    if behind:  # which goes on when who has started it ends
        (tmp_path / "uv").write_text(f"#!/bin/sh\n{starts}\n")
        (tmp_path / "uv").chmod(0o755)
        starts = "./uv & wait"
    starter = subprocess.Popen(
        ["/bin/sh", "-c", starts],
        cwd=service,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FLAME_INSTANCE_ENDPOINT": str(socket)},
        start_new_session=True,
    )
    wait_until(socket.exists, "the instance's socket")
    starter.kill()
    starter.wait()
    pid = int((service / "pid").read_text())
    wait_until(lambda: not alive(pid), "the end of the instance", 60)


def test_the_socket_appears_when_the_instance_listens_and_before_the_agent_is_imported(service: Path) -> None:
    waits = "import time\nfrom pathlib import Path\nwhile not Path('go').exists(): time.sleep(0.05)\n"
    (service / "agent.py").write_text(waits + SERVICE)
    with Shim(service) as shim:
        shim.enter()
        assert not list(shim.socket.parent.glob("*.tmp"))
        (service / "go").touch()
        assert shim.invoke("one") == "did one"


def test_started_by_hand_it_says_what_it_is() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "FLAME_INSTANCE_ENDPOINT"}
    done = subprocess.run(
        [sys.executable, "-m", "flameagent.service", "agent"], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "This is a Flame service" in done.stderr
    assert "Traceback" not in done.stderr


def test_running_the_agents_file_is_running_the_service() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "FLAME_INSTANCE_ENDPOINT"}
    done = subprocess.run([sys.executable, "agent.py"], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 2
    assert "This is a Flame service" in done.stderr
