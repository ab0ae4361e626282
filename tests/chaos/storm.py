"""Conversations in which everything is killed: clients, engine, instances, workers, at named points and at any time.

Beside that, the engine's sockets are swept away and its frontend is ended by a request.

Real are the client, the engine, the instance and HTTP; the model is scripted. Each session has somebody who asks in
it, one question after the other, with `client.py`; meanwhile one process after the other gets SIGKILL. At the end it
is quiet, one more question is asked in each session, and the oracle judges.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from localflame.home import Home
from tests.acceptance.program import ROOT, Program, clean_environment
from tests.chaos.agents import Cashier, answer_to
from tests.chaos.oracle import Asked, File, Verdict, judge
from tests.support.http2 import request
from tests.support.model_server import ModelServer

PATIENCE = 300.0
"""Seconds for whatever has to come true; nothing is measured by it."""

_NOT_REACHED = [
    *(f"flameagent/client/{name}.py" for name in ("known_sessions", "memory", "users")),
    "flameagent/conversation/failures.py",  # of failures there are few here
]

POINTS = sorted(
    {
        point
        for package in ("flameagent", "localflame")
        for file in (ROOT / package).rglob("*.py")
        if file.relative_to(ROOT).as_posix() not in _NOT_REACHED
        for point in re.findall(r'\bfailpoint\("([^"]+)"\)', file.read_text())
    }
)
"""Every point that the code names, such as `append: after`, but for those of commands about people and lists, and of
failures."""
assert "append: after" in POINTS, "the points are not found in the code"

_COMES_AFTER = {
    "engine: starting": ("engine",),
    "engine: serving": ("engine",),
    "engine: before an instance": ("instance",),
    "engine: instance started": ("instance",),
    "instance: started": ("instance",),
    "instance: listening": ("instance",),
    "instance: entered": ("instance",),
    "worker: ready": ("worker",),
    "nursery: before it is founded": ("nursery", "worker"),
    "nursery: listening": ("nursery", "worker"),
    "nursery: before a fork": ("worker",),
    "nursery: in a fork": ("worker",),
    "nursery: after a fork": ("worker",),
}
"""What has to be killed first for a point to be reached: these lie in a start."""

_NEW_PERSON = "memory: made"
"""The point that a client reaches for somebody of whom nothing is remembered yet."""

_COMMANDS = {
    "engine": ("localflame", "serve"),
    "instance": ("flameagent.service", "agent"),
    "worker": ("flameagent.service.process.worker",),
    "nursery": ("flameagent.service.process.worker",),
    "client": ("client.py",),
}

_HARMS = ("sockets swept", "frontend ended by a request")
"""What is done to an engine beside killing it."""


@dataclass
class Report:
    """What was done, and what came of it."""

    seed: int
    points: Sequence[str] = ()
    kills: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    begun: int = 0
    most_begun: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    stuck: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    integrity: str = ""
    seconds: float = 0.0

    @property
    def wrong(self) -> list[str]:
        """Everything that should not be: empty."""
        found = [f"{kind}: {what}" for kind, sentences in self.verdict.wrong.items() for what in sentences]
        found += [f"stuck: {what}" for what in self.stuck] + [f"orphan: {what}" for what in self.orphans]
        found += [f"never reached: {point}" for point in self.points if self.kills and not self.kills[point]]
        found += [f"integrity: {self.integrity}"] if self.integrity != "ok" else []
        if self.begun > self.most_begun:
            found.append(f"the model began {self.begun} turns, {self.most_begun} at most were to be expected")
        return found

    def table(self) -> str:
        """In Markdown."""
        counts = self.outcomes
        rows = [
            (f"`{kind}`" if ":" in kind else kind, str(times))
            for kind, times in sorted(self.kills.items(), key=_by_name)
        ]
        results = [
            ("turns asked", sum(counts.values())),
            ("answered", counts["answered"]),
            ("refused, nothing was added", counts["refused"]),
            ("the client was killed or could not know", counts["unknown"]),
            ("of these in the conversation, once", self.verdict.unknown_added),
            ("turns that the model began", self.begun),
            *((kind, len(sentences)) for kind, sentences in self.verdict.wrong.items()),
            ("stuck", len(self.stuck)),
            ("processes left over", len(self.orphans)),
        ]
        rows += [("**kills**", f"**{sum(self.kills.values())}**")]
        rows += [(name, str(number)) for name, number in results]
        return "\n".join(f"| {name} | {value} |" for name, value in (("what", "times"), ("---", "---:"), *rows))


def checkout(folder: Path, agent: str, model: ModelServer, **environment: str) -> Program:
    """The client of a copy of this project with another agent, and with an engine of its own."""
    copied = folder / "checkout"
    for part in ("flameagent", "flamewire", "localflame", "apis.py", "client.py", "openai-agent.yaml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, copied / part)
    (copied / "agent.py").write_text(agent)
    (copied / "effects").mkdir()
    own = {"LOCALFLAME_HOME": str(folder / "engine"), "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "a-secret-key"}
    return Program(clean_environment(folder / "home") | own | environment, copied)


def _by_name(kind: tuple[str, int]) -> tuple[str, bool]:
    return kind[0].replace(",", ":").partition(":")[0], ":" in kind[0]


class Storm:
    """One run in `folder`. `agent` is the source of the module `agent`."""

    def __init__(
        self,
        folder: Path,
        agent: str,
        *,
        seed: int,
        sessions: int,
        say: Callable[[str], None] = lambda _: None,
        **environment: str,
    ) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._say = say
        self._model, self._cashier = ModelServer(strict=True), Cashier()
        self._model.script = self._cashier
        self._points = folder / "points"
        self._points.mkdir()
        environment |= {"FAILPOINTS": str(self._points), "AGENT_HISTORY": "6", "AGENT_EMBEDDINGS": "m"}
        self._client = checkout(folder, agent, self._model, **environment)
        self._commands = dict(_COMMANDS)
        self._count, self._persons = sessions, 0
        self._asked: list[Asked] = []
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._expected: Sequence[str] = POINTS
        self._report = Report(seed)

    def run(self, *, turns: int, kills: int) -> Report:
        """Go on until so many turns were asked and so many processes killed, each point among them; or none, at 0."""
        begun = time.monotonic()
        self._report.points = self._expected
        with self._model:
            try:
                self._blow(turns, kills)
            finally:
                self._enough.set()
                self._run("engine", "stop")
                self._report.orphans = self._left_over()
        file = File(self._folder / "engine" / "flame.db")
        self._report.integrity = file.integrity()
        self._report.stuck += [f"{file.unfinished()} tasks have not ended"] if file.unfinished() else []
        self._report.verdict = judge(
            file,
            self._asked,
            self._folder / "checkout" / "effects",
            self._folder / "home" / ".cache" / "flame-openai-agent" / "memory",
        )
        self._report.outcomes = Counter(turn.outcome for turn in self._asked)
        self._report.begun = self._cashier.begun.total()
        # A kill repeats the turn that it strikes; that of the engine may strike one in each session.
        of_the_engine = sum(times for kind, times in self._report.kills.items() if kind.startswith("engine"))
        killed = sum(self._report.kills.values())
        self._report.most_begun = len(self._asked) + killed + (self._count - 1) * of_the_engine
        self._report.seconds = time.monotonic() - begun
        return self._report

    def _blow(self, turns: int, kills: int) -> None:
        sessions = [self._first(str(number)) for number in range(self._count)]
        askers = [threading.Thread(target=self._converse, args=(number, id)) for number, id in enumerate(sessions)]
        for asker in askers:
            asker.start()
        try:
            done, points = 0, list(self._expected) if kills else []
            self._random.shuffle(points)
            while done < kills or points or len(self._asked) < turns:
                if points and (len(points) >= kills - done or self._random.random() < 0.5):
                    done += self._kill_at(points.pop())
                elif done < kills and self._random.random() < 0.3:
                    done += self._kill_at(self._random.choice(self._expected))
                elif done < kills:
                    done += self._kill()
                else:
                    time.sleep(0.1)
                while done * turns > len(self._asked) * kills:
                    time.sleep(0.1)  # over the whole time
                self._say(f"{done} kills, {len(self._asked)} turns asked, {len(points)} points to come")
        finally:
            self._enough.set()
            for asker in askers:
                asker.join()
        for number, id in enumerate(sessions):
            self._last(number, id)
        for person in range(self._persons):
            self._first(f"person {person}", "--user", f"person {person}")

    # Asking

    def _first(self, name: str, *more: str) -> str:
        done = self._run("-m", f"hello {name}", "--json", *more)
        assert done.code == 0, done.err
        session: str = done.json["session_id"]
        self._note(session, f"hello {name}", "answered")
        return session

    def _converse(self, number: int, session: str) -> None:
        for turn in range(1, 100_000):
            if self._enough.is_set():
                return
            word = ("pay", "look", "refund", "also", "say", "now")[turn % 6]
            if word in ("also", "now"):
                self._ask_beside(session, f"slow {number}.{turn}", f"{word} {number}.{turn}")
            else:
                self._ask(session, f"{word} {number}.{turn}")

    def _ask_beside(self, session: str, slow: str, question: str) -> None:
        """Ask while another turn runs, which somebody watches: a message for it, or a question that interrupts it."""
        first = self._note(session, slow, "unknown")
        others = [
            threading.Thread(target=self._ask, args=(session, slow, first)),
            threading.Thread(target=self._watch, args=(session,)),
        ]
        for other in others:
            other.start()
        asked = self._note(session, question, "unknown", beside=True)
        how = "--steer" if question.startswith("also") else "--interrupt"
        self._ask(session, question, asked, how, also=slow)
        for other in others:
            other.join()

    def _watch(self, session: str) -> None:
        """Attach to the turn that runs, if one does, and again where that client is killed."""
        done = _Done(-signal.SIGKILL, "", "")
        while done.code == -signal.SIGKILL:
            done = self._run("-s", session, "--json")
        if done.code not in (0, 1, 2, 3, 5, 6, 7):
            self._report.stuck.append(f"who watched {session}: exit code {done.code}: {done.err}")

    def _last(self, number: int, session: str) -> None:
        """Now that it is quiet, everything has to work."""
        if self._ask(session, f"goodbye {number}").outcome != "answered":
            self._report.stuck.append(f"{session}: {self._asked[-1].said}")

    def _ask(
        self, session: str, question: str, noted: Asked | None = None, *more: str, also: str | None = None
    ) -> Asked:
        """Ask. The answer is to the question, or to the one whose turn has taken it in (`also`)."""
        asked = noted or self._note(session, question, "unknown")
        command = ("-s", session, "-m", question, "--json", *more, *self._attached(question))
        done = self._run(*command)
        while done.code == 3 and done.err:  # refused: an earlier turn waits, whose client was killed
            self._approve(session)
            done = self._run(*command)
        if done.code == 3:
            done = self._approve(session)
        if done.code == 0:
            asked.outcome = "answered"
            if done.json["answer"] not in (answer_to(question), also and answer_to(also)):
                self._report.stuck.append(f"{question} got the answer {done.json['answer']!r}")
        elif done.code in (1, 6):
            asked.outcome = "refused"
        elif done.code not in (5, 7, -signal.SIGKILL):
            self._report.stuck.append(f"{question}: exit code {done.code}: {done.err}")
        asked.said = done.err.strip()
        return asked

    def _attached(self, question: str) -> tuple[str, ...]:
        """The image that goes with `look NUMBER.TURN`; every other one was attached in its session before."""
        if not question.startswith("look"):
            return ()
        number, _, turn = question.removeprefix("look ").partition(".")
        file = self._folder / f"{number}.{int(turn) // 12}.png"
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + file.name.encode())
        return "--attach", str(file)

    def _approve(self, session: str) -> _Done:
        """Approve until nothing waits. A decision whose turn was interrupted is made again."""
        deadline = time.monotonic() + PATIENCE
        done = self._run("approve", session, "--json")
        while done.code not in (0, 6):
            if time.monotonic() > deadline:
                self._report.stuck.append(f"{session} cannot be approved: {done.err}")
                break
            done = self._run("approve", session, "--json")
        return done if done.code == 0 else _Done(7, "", done.err)

    def _note(self, session: str, question: str, outcome: str, *, beside: bool = False) -> Asked:
        with self._lock:
            self._asked.append(Asked(session, question, outcome, beside=beside))
            return self._asked[-1]

    def _run(self, *arguments: str) -> _Done:
        process = self._client.start(*arguments)
        try:
            out, err = process.communicate(timeout=PATIENCE + 60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self._report.stuck.append(f"client.py {' '.join(arguments)} did not end")
            return _Done(7, "", "it did not end")
        if "Traceback" in err:
            self._report.stuck.append(f"client.py {' '.join(arguments)}: {err}")
        return _Done(process.returncode, out, err)

    # Killing

    def _kill_at(self, point: str) -> int:
        """Have the next process that reaches the point be killed there; how many kills it took."""
        (self._points / point).touch()
        kills, begun, again = 0, time.monotonic(), 0.0
        while (self._points / point).exists():
            if time.monotonic() - begun > PATIENCE:
                (self._points / point).unlink(missing_ok=True)
                self._report.stuck.append(f"nobody came to the point {point}")
                return kills
            if point == _NEW_PERSON:
                self._run("-m", "hello", "--user", f"person {self._persons}")
                self._persons += 1
            if point in _COMES_AFTER and time.monotonic() - begun >= again:
                # Of those that are there: nobody founds a nursery while all conversations have their workers.
                kills += sum(map(self._kill, filter(self._processes, _COMES_AFTER[point])))
                again += 20.0  # what was killed may have been one that nobody needed
            time.sleep(0.02)
        self._report.kills[point] += 1
        return kills + 1

    def _kill(self, kind: str = "") -> int:
        """Kill some process, or one of that kind, at any time; how many were killed: one, or none in time."""
        kind = kind or self._random.choice([*self._commands, *_HARMS])
        deadline = time.monotonic() + PATIENCE
        time.sleep(self._random.random() * 1.5)
        while time.monotonic() < deadline:
            if kind in _HARMS:
                if self._harm(kind):
                    self._report.kills[f"{kind}, at any time"] += 1
                    return 1
                time.sleep(0.02)
                continue
            found = self._processes(kind)
            if found:
                with_number = self._random.choice(found)
                try:
                    os.kill(with_number, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                self._report.kills[f"{kind}, at any time"] += 1
                return 1
            if kind == "nursery":  # nobody founds one while all conversations have their workers
                return 0
            time.sleep(0.02)
        self._report.stuck.append(f"there was no {kind} to kill")
        return 0

    def _harm(self, kind: str) -> bool:
        """Whether there was an engine to do it to."""
        folder = Home(self._folder / "engine").read_engine_record().get("sockets")
        if folder is None:
            return False
        if kind == "sockets swept":
            shutil.rmtree(folder, ignore_errors=True)
            return True
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(f"{folder}/frontend")
                connection.sendall(request(b"/flame.v1.Frontend/\xe3"))
                time.sleep(0.1)
            except OSError:
                return False
        return True

    def _processes(self, kind: str = "") -> list[int]:
        """The processes of this run, of one kind or all."""
        marker, found = f"FAILPOINTS={self._points}".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                ours = marker in (entry / "environ").read_bytes().split(b"\0")
                is_nursery = (entry / "comm").read_text().strip() == "agent-nursery"
            except OSError:
                continue
            names = {word.rpartition("/")[2] for word in words}
            is_kind = not kind or (names.issuperset(self._commands[kind]) and is_nursery == (kind == "nursery"))
            if ours and is_kind:
                found.append(int(entry.name))
        return found

    def _left_over(self) -> list[str]:
        deadline = time.monotonic() + PATIENCE
        while (found := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in found]


@dataclass(frozen=True)
class _Done:
    """How a run of the client ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, str]:
        import json

        parsed: dict[str, str] = json.loads(self.out)
        return parsed
