"""Spans: what they belong to, what is noted of them, and the file that they are written to."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flameagent import tracing
from flameagent.client import status
from flameagent.tracing import file, modes
from flameagent.tracing.file import FileSink
from flameagent.tracing.recording import RecordedSpan, Recorder
from tests.support.otlp import Collector
from tests.unit.tracing.conftest import Kept

CALLER = f"00-{'a' * 32}-{'b' * 16}-01"


def test_what_begins_inside_a_span_belongs_to_it(kept: Kept) -> None:
    tracing.start("test")
    with tracing.span("outer") as outer:
        with tracing.span("inner", {"number": 1}):
            tracing.annotate({"more": "text"})
        with tracing.span("next"):
            pass
    inner, following, last = kept.spans()
    assert [span["name"] for span in (inner, following, last)] == ["inner", "next", "outer"]
    assert inner["parent_id"] == following["parent_id"] == last["span_id"]
    assert inner["attributes"] == {"number": 1, "more": "text"}
    assert last["parent_id"] == "" and outer.traceparent == f"00-{last['trace_id']}-{last['span_id']}-01"
    assert last["start"] <= inner["start"] <= inner["end"] <= last["end"]


def test_a_callers_trace_is_continued(kept: Kept) -> None:
    tracing.start("test")
    tracing.begin("turn", parent=CALLER).end()
    (span,) = kept.spans()
    assert (span["trace_id"], span["parent_id"]) == ("a" * 32, "b" * 16)


def test_a_caller_who_wants_no_trace_gets_none_and_is_heard_by_others(kept: Kept) -> None:
    tracing.start("test")
    with tracing.begin("turn", parent=CALLER.removesuffix("1") + "0") as turn, tracing.span("part") as part:
        assert turn.traceparent.endswith("-00") and part.traceparent.endswith("-00")
    assert kept.spans() == []


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        "00-" + "0" * 32 + "-" + "b" * 16 + "-01",
        "00-" + "a" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "a" * 32 + "-" + "b" * 16 + "-01",
        CALLER + "-more",
        CALLER.upper(),
        CALLER[:-1],
    ],
)
def test_a_header_that_names_no_span_begins_a_trace(header: str, kept: Kept) -> None:
    tracing.start("test")
    tracing.begin("turn", parent=header).end()
    (span,) = kept.spans()
    assert span["parent_id"] == "" and span["trace_id"].strip("0")


def test_what_raises_has_failed(kept: Kept) -> None:
    tracing.start("test")
    with pytest.raises(ValueError, match="wrong"), tracing.span("part"):
        raise ValueError("this is wrong")
    (span,) = kept.spans()
    assert span["error"] == "this is wrong" and span["attributes"]["error.type"] == "ValueError"


def test_keys_are_in_no_span(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "this-is-my-secret-4711")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=collector-token,other=plain")
    tracing.start("test")
    said = "refused: this-is-my-secret-4711, sk-abcdefgh12345678, collector-token"
    with tracing.span(f"call {said}", {"text": said, "list": [said], "session.id": "desk-1"}) as span:
        span.fail("error", said)
    (span_kept,) = kept.spans()
    written = json.dumps(span_kept)
    assert not any(key in written for key in ("my-secret", "sk-abcdefgh", "collector-token"))
    assert span_kept["attributes"]["session.id"] == "desk-1"


def test_a_span_that_nobody_ends_is_kept_as_that(kept: Kept) -> None:
    tracing.start("test")
    lost = tracing.begin("lost")
    left = tracing.begin("left")
    del lost
    spans = kept.spans()
    assert {span["name"]: span["attributes"] for span in spans} == {
        "lost": {"flame.unfinished": True},
        "left": {"flame.unfinished": True},
    }
    left.end()


def test_only_the_user_reads_the_file(kept: Kept) -> None:
    tracing.start("test")
    tracing.begin("turn").end()
    kept.spans()
    assert stat.S_IMODE(kept.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((kept.folder / file.NAME).stat().st_mode) == 0o600


def test_what_a_killed_process_has_left_half_harms_no_other_span(kept: Kept) -> None:
    kept.add("before", "1" * 16)
    kept.append('\n{"trace_id": "22')
    tracing.start("test")
    tracing.begin("behind").end()
    assert [span["name"] for span in kept.spans()] == ["before", "behind"]


@pytest.mark.parametrize("line", ["[1]", "nonsense", "{}", '{"trace_id": 1}', "[" * 10_000, '"\\ud800"'])
def test_lines_that_are_no_spans_are_passed_over(line: str, kept: Kept) -> None:
    kept.append(f"\n{line}\n")
    kept.add("behind", "1" * 16)
    assert [span["name"] for span in kept.spans()] == ["behind"]


def test_several_processes_write_at_once_and_the_files_have_a_bound(kept: Kept) -> None:
    most = 20_000
    code = (
        "import sys\n"
        "from flameagent.tracing.file import FileSink\n"
        "from flameagent.tracing.recording import RecordedSpan, Recorder\n"
        f"sink, none = FileSink('test', {most}), Recorder([], 'test', print)\n"
        "for number in range(200):\n"
        "    span = RecordedSpan(none, f'{sys.argv[1]}-{number}', {'text': 'x' * 100}, 'internal', None, 1, '')\n"
        "    span.ended = 2\n"
        "    assert not sink.export([span])\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "abc"]
    assert [process.wait(90) for process in running] == [0, 0, 0]
    lines = [
        line
        for name in ("spans.1.jsonl", "spans.jsonl")
        for line in (kept.folder / name).read_bytes().splitlines()
        if line
    ]
    assert len(lines) == len(list(file.lines(kept.folder))) > 20  # each of them whole
    assert all(path.stat().st_size < most + 3 * 600 for path in kept.folder.glob("spans*"))
    assert len(list(kept.folder.glob("spans*"))) == 2


def test_a_home_that_cannot_be_written_costs_no_turn_and_is_said_once(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.folder.parent.mkdir(parents=True)
    kept.folder.write_text("no folder")
    said: list[str] = []
    heard = threading.Event()
    tracing.start("test", lambda sentence: (said.append(sentence), heard.set()))
    tracing.begin("turn").end()
    assert heard.wait(90)
    tracing.begin("turn").end()
    tracing.stop()
    assert len(said) == 1 and "cannot be written" in said[0]


class _Stuck:
    """A sink that takes nothing."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.taken: list[RecordedSpan] = []

    def prepare(self) -> None: ...

    def patience(self) -> float:
        return 0.01

    def export(self, spans: list[RecordedSpan]) -> str:
        self.let.wait(90)
        self.taken += spans
        return ""


def test_spans_that_nobody_takes_are_dropped() -> None:
    sink = _Stuck()
    recorder = Recorder([sink], "test", print)
    for _ in range(20_000):
        recorder.begin("part").end()
    assert not recorder.flush(0.01)
    sink.let.set()
    assert recorder.flush(90)
    assert 4096 <= len(sink.taken) <= 2 * 4096
    recorder.close()


def test_who_forks_sends_what_the_child_records(kept: Kept) -> None:
    tracing.start("test")
    tracing.begin("before").end()
    child = os.fork()
    if child == 0:
        tracing.begin("in the child").end()
        tracing.stop()
        os._exit(0)
    os.waitpid(child, 0)
    assert {span["name"] for span in kept.spans()} == {"before", "in the child"}


@pytest.mark.parametrize(
    ("setting", "chosen", "openai", "wrong"),
    [
        ("", set(), False, False),
        ("0", set(), False, False),
        ("off", set(), False, False),
        ("1", set(), True, False),
        ("file", {"file"}, False, False),
        ("1, OTLP ,file", {"otlp", "file"}, True, False),
        ("yes", set(), False, True),
        ("1,yes", set(), False, True),
    ],
)
def test_the_setting_says_where_traces_go(setting: str, chosen: set[str], openai: bool, wrong: bool) -> None:
    environ = {"AGENT_TRACING": setting}
    assert (modes.chosen(environ), modes.to_openai(environ)) == (chosen, openai)
    assert bool(modes.trouble(environ)) == bool(modes.complaint(setting)) == wrong


def test_a_protocol_that_is_none_is_said() -> None:
    environ = {"AGENT_TRACING": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}
    assert "grpc or http/protobuf, not 'smoke'" in modes.trouble(environ)


def test_the_sink_is_named_after_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "desk")
    assert FileSink("test")._resource["service.name"] == "desk"


def test_nothing_is_imported_where_tracing_is_off() -> None:
    code = (
        "import os, sys, flameagent.client.client\n"
        "from flameagent import tracing\n"
        "tracing.start('test')\n"
        "with tracing.span('part') as span: span.set({'a': 1})\n"
        "assert tracing.begin('turn') is tracing.NOTHING and tracing.here() == ''\n"
        "print(*sorted(name for name in sys.modules if name.startswith(('opentelemetry', 'flameagent.tracing'))))\n"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_")}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["flameagent.tracing", "flameagent.tracing.modes"]


def test_a_program_that_stops_at_once_leaves_its_spans() -> None:
    code = (
        "from flameagent import tracing\n"
        "tracing.start('short')\n"
        "tracing.begin('turn').end()\n"
        "left = tracing.begin('left')\n"
        "tracing.stop()\n"
    )
    with Collector() as collector:
        environ = {**os.environ, "AGENT_TRACING": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=90)
        spans = {span.name: span for span in collector.spans}
    assert set(spans) == {"turn", "left"} and spans["left"].attributes == {"flame.unfinished": True}
    assert {span.service for span in spans.values()} == {"short"}


def test_what_a_program_has_not_sent_at_its_end_is_sent_then(kept: Kept) -> None:
    code = "from flameagent import tracing; tracing.start('short'); left = tracing.begin('left')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=90)
    assert [span["name"] for span in kept.spans()] == ["left"]


def test_opentelemetrys_variables_name_a_process() -> None:
    code = "from flameagent import tracing; tracing.start('short'); tracing.begin('turn').end(); tracing.stop()"
    named = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=other,team=desk", "OTEL_SERVICE_NAME": "desk"}
    with Collector() as collector:
        environ = {**os.environ, "AGENT_TRACING": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **named}
        subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=90)
        (span,) = collector.spans
    assert span.service == "desk"


def test_status_says_what_is_wrong_with_the_setting(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "LOCALFLAME_HOME": str(tmp_path / "engine"), "AGENT_TRACING": "what"}
    found, wrong = status.look(environ, {"app": "desk.agents:desk"})
    assert "AGENT_TRACING is 1, otlp, file or several" in found.problem
    assert wrong is None or "AGENT_TRACING" not in str(wrong)  # a question can be asked all the same
