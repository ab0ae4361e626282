"""Engines: started, stopped, found, configured wrongly, and things that are none."""

from __future__ import annotations

import getpass
import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flameagent.client import connect
from flameagent.client.engine import Embedded
from localflame import find
from tests.acceptance.program import PATIENCE, ROOT, Program, ended, eventually, together
from tests.acceptance.terminal import Terminal
from tests.support.door import Door
from tests.support.http2 import let_it_read, request
from tests.support.model_server import ModelServer, Step
from tests.support.schema import check


def test_a_session_goes_on_after_the_engine_was_stopped_and_its_ports_were_taken(own: Program) -> None:
    assert own("engine", "status", "--json").json == {"home": own.environment["LOCALFLAME_HOME"], "running": False}
    first = own("-m", "before", "--json").json
    where = own("engine", "status", "--json").json
    assert own("engine", "stop").out == "Stopped.\n"
    assert own("engine", "stop").out == "It was not running.\n"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(where["endpoint"].rpartition(":")[2])))
        taken.listen()
        assert own("-s", first["session_id"], "-q", "-m", "after").out == "answer 2: after\n"
    assert own("engine", "status", "--json").json["endpoint"] != where["endpoint"]
    assert f"runs, process {own('engine', 'start', '--json').json['pid']}." in own("engine", "status").out
    assert "engine.log:\n" in own("engine", "logs", "-n", "2").out


def test_what_the_engine_has_counted_is_printed_for_prometheus(own: Program) -> None:
    assert own("engine", "metrics", "--json", code=5).error["code"] == "no_engine"
    own("-m", "count me", "--json")
    found = own("engine", "metrics", "--json").json
    check("engine metrics", found)
    (ended_tasks,) = [each["samples"] for each in found if each["name"] == "localflame_tasks_ended_total"]
    counts = {each["labels"]["outcome"]: each["value"] for each in ended_tasks}
    assert counts == {"succeeded": 1, "failed": 0, "cancelled": 0}
    shown = own("engine", "metrics").out
    assert f'localflame_tasks_ended_total{{application="{own.name}",outcome="succeeded"}} 1\n' in shown
    assert set(re.findall(r"^# TYPE (\w+)", shown, re.MULTILINE)) == {each["name"] for each in found}


def test_the_readmes_program_of_flamepy_runs_as_printed(own: Program, model: ModelServer) -> None:
    keyless = own.having(OPENAI_API_KEY=None, OPENAI_BASE_URL=None)
    keyless("engine", "start")  # which is not where the agent's key comes from
    readme = (ROOT / "README.md").read_text()
    (program,) = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "flamepy" in block]
    assert '$ eval "$(uv run client.py engine env)"\n$ uv run python pirate.py\n' in readme
    exported = own("engine", "env").out
    variables = dict(re.findall(r"^export (\w+)=(\S+)$", exported, re.MULTILINE))
    as_json = own("engine", "env", "--json").json
    check("engine env", as_json)
    assert variables == as_json and len(exported.splitlines()) == len(variables) == 2
    model.script = lambda request: Step(text=f"Arr: {request['messages'][0]['content'].partition(chr(10))[0]}")
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=keyless.having(**variables).environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ran.stdout, ran.returncode) == ("Arr: You are a pirate.\n", 0), ran.stderr


def test_the_embedded_engine_is_known_by_its_address_and_gets_the_keys(own: Program, model: ModelServer) -> None:
    session = own("-m", "one", "--json").json["session_id"]
    where = own("engine", "env", "--json").json
    by_number = own.having(FLAME_ENDPOINT=where["FLAME_ENDPOINT"], OPENAI_API_KEY="another-key")
    by_name = own.having(FLAME_ENDPOINT=where["FLAME_ENDPOINT"].replace("127.0.0.1", "localhost") + "/")
    for named in (by_number, by_name, own.having(**where)):
        status = named("status", "--json").json
        assert (status["engine"], status["why"]) == ("embedded", "FLAME_ENDPOINT has its address")
        assert status["settings"]["endpoint"]["source"] == "FLAME_ENDPOINT" and not status["unused"]
    assert by_number("-c", "-m", "two", "--json").json["session_id"] == session
    assert model.requests[-1].headers["authorization"] == "Bearer another-key"

    own("engine", "stop")
    assert by_number("-s", session, "-q", "-m", "three").out == "answer 3: three\n"  # and it is started again
    elsewhere = own.having(FLAME_ENDPOINT="http://127.0.0.1:9", FLAME_CACHE_ENDPOINT=where["FLAME_CACHE_ENDPOINT"])
    assert elsewhere("status", "--json").json["engine"] == "cluster"
    apart = own.having(**where | {"FLAME_CACHE_ENDPOINT": "grpc://127.0.0.1:9"})
    assert apart("status", "--json").json["engine"] == "cluster"


def test_what_cannot_be_asked_starts_no_engine(own: Program) -> None:
    own("-m", "", code=2)
    own("-m", "?", "--prompt", "@missing", code=2)
    own("-m", "?", "--history", "none", code=2)
    none_yet = "You have used no session on this engine yet; the command `sessions` lists those it has.\n"
    assert own("-c", "-m", "?", code=4).err == own("chat", "-c", code=4).err == none_yet
    own("status")
    assert not Path(own.environment["LOCALFLAME_HOME"]).exists()


def test_an_engine_that_was_begun_is_the_one_that_is_reached(tmp_path: Path) -> None:
    engine = Embedded(tmp_path / "home")
    engine.begin()
    engine.begin()
    try:
        begun = eventually(lambda: find(engine.home))
        assert engine.reach().frontend == begun.endpoint
        assert find(engine.home) == begun
    finally:
        assert engine.stop()


def test_a_turn_survives_an_engine_that_is_killed_meanwhile(own: Program, model: ModelServer) -> None:
    engine: int = own("engine", "start", "--json").json["pid"]
    answer = f"It is **half past nine**.{' T.' * 40}"
    model.steps.append(Step(text=answer, chunk_delay=1.0))
    model.script = lambda request: Step(text=answer)
    seen = Terminal(own.having(TERM="xterm-256color"), "-m", "the time?")
    eventually(lambda: seen.text.startswith("It is half"))
    os.kill(engine, signal.SIGKILL)
    seen.shows("the engine went away: waiting for it")
    said = seen.ended()
    session = said.split(" -s ")[1].split()[0]
    begun, _, again = said.partition("(What ran this turn was lost: it begins again.)\n")
    assert answer.replace("*", "").startswith(begun.strip())
    assert again == (
        f"It is half past nine.{' T.' * 40}\n"
        "\n"
        f"Session History ({session})\n"
        "* user       the time?\n"
        "* assistant  (the answer above)\n"
        "Answered by gpt-5.6-luna.\n"
        f'Go on: uv run client.py -s {session} -m "…"\n'
    )
    assert "starting the engine" not in seen.raw and "the engine went away" in seen.raw
    assert len(own("history", session, "--json").json["turns"]) == 1


@pytest.mark.parametrize("harm", ["sockets swept", "frontend ended by a request"])
def test_a_turn_survives_what_is_done_to_its_running_engine(own: Program, model: ModelServer, harm: str) -> None:
    session = own("-m", "before", "--json").json["session_id"]
    before = own("engine", "status", "--json").json
    folder = Path(before["sockets"])
    model.steps.append(Step(text="slowly", delay=3.0))
    asked = own.start("-s", session, "-q", "-m", f"meanwhile: {harm}")
    eventually(lambda: model.requests and harm in str(model.requests[-1].json))
    for _ in range(2):
        if harm == "sockets swept":
            shutil.rmtree(folder)
        else:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(folder / "frontend"))
                connection.sendall(request(b"/flame.v1.Frontend/\xe3"))
                let_it_read(connection)
        assert own("sessions", "--json").json[0]["session_id"] == session
    assert asked.communicate(timeout=120)[0] == "slowly\n"
    assert own("-s", session, "-q", "-m", "after").out == "answer 3: after\n"
    assert own("engine", "status", "--json").json["pid"] == before["pid"]
    questions = [str(request.json) for request in model.requests]
    assert sum(harm in question and "after" not in question for question in questions) == 1


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only /proc says who is connected")
def test_neither_client_nor_worker_comes_by_the_ports(own: Program) -> None:
    with own.start("chat") as chat:
        assert chat.stdin is not None and chat.stdout is not None
        chat.stdin.write("are you there?\n")
        chat.stdin.flush()
        assert "are you there?" in chat.stdout.readline()
        status = own("engine", "status", "--json").json
        ports = {int(status[where].rpartition(":")[2]) for where in ("endpoint", "cache_endpoint")}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        used = {(int(row[1].rpartition(":")[2], 16), row[3]) for row in rows}
        assert {port for port, state in used if state == "0A"} >= ports  # it listens
        assert not {port for port, state in used if state == "01"} & ports
        chat.stdin.close()


def test_status_says_what_a_question_would_meet(own: Program) -> None:
    home = own.environment["LOCALFLAME_HOME"]
    assert own("status").out == (
        "engine          embedded, not running\n"
        f"                {home}\n"
        "why             no --endpoint, FLAME_ENDPOINT or ~/.flame/flame.yaml\n"
        "agent           openai-agent, registration unknown\n"
        f"runs            agent in {ROOT}\n"
        f"chosen by       {ROOT / 'openai-agent.yaml'}\n"
        "model           gpt-5.6-luna (OPENAI_API_KEY)\n"
        "advice          The next question starts it.\n"
        "                This server is asked for gpt-5.6-luna, OpenAI's default: name a model of its own with "
        "--model, in AGENT_MODEL or in the settings file.\n"
        "\n"
        "Settings\n"
        "model           gpt-5.6-luna (default)\n"
        f"base_url        {own.environment['OPENAI_BASE_URL']} (OPENAI_BASE_URL)\n"
        "api             chat (default)\n"
        "history         200 (default)\n"
        "model_timeout   120 (default)\n"
        "timeout         330 (default)\n"
        "stream          true (default)\n"
        "OPENAI_API_KEY  set\n"
        f"settings file   {own.settings} (not there)\n"
    )
    where = own("engine", "start", "--json").json["endpoint"]
    assert own("status").out.startswith(f"engine          embedded, reachable\n                {where}\n")
    keyless = own.having(OPENAI_API_KEY=None, OPENAI_BASE_URL=None)
    assert "model           SmolLM2-135M-Instruct (local) (no key is set)\n" in keyless("status").out
    assert "The model gpt-x (from AGENT_MODEL) needs a key" in keyless.having(AGENT_MODEL="gpt-x")("status").out
    unusable = own.having(OPENAI_BASE_URL="nonsense")("status").out
    assert "model           none\n" in unusable and "OPENAI_BASE_URL is not an address" in unusable
    secret = own.having(OPENAI_BASE_URL="http://user:sesame@127.0.0.1:1/v1", DEEPSEEK_API_KEY="open-sesame")
    assert "sesame" not in (told := secret("status").out) and "http://***@127.0.0.1:1/v1 (OPENAI_BASE_URL)\n" in told
    assert "sesame" not in secret("status", "--json").out


@pytest.mark.parametrize("columns", [80, 40])
def test_paths_and_addresses_stay_in_one_piece_on_a_narrow_terminal(own: Program, columns: int, nobody: str) -> None:
    long = f"{nobody}/{'a-long-path/' * 8}"
    broken = own.having(FLAME_ENDPOINT=long, FLAME_CA_FILE=f"/etc/{'authorities/' * 8}ca.crt", TERM="xterm-256color")
    terminal = Terminal(broken, "status", columns=columns)
    shown = terminal.ended()
    for whole in (long, broken.environment["FLAME_CA_FILE"], str(own.settings)):
        assert whole in terminal.raw
    assert "\nproblem         Nobody answers as Flame" in shown.replace("\n                ", " ")
    lines = shown.splitlines()
    assert "                (FLAME_CA_FILE)" in lines and "timeout         330 (default)" in lines
    failed = Terminal(broken, "sessions", columns=columns)
    failed.ended(code=5)
    assert long in failed.raw


def test_status_tells_what_is_wrong_and_what_is_right(own: Program, tmp_path: Path) -> None:
    broken = own.having(HOME=str(tmp_path), FLAME_AGENT_TIMEOUT="soon", FLAME_AGENT_STREAM="no", AGENT_API="soap")
    file, flame = own.having(HOME=str(tmp_path)).settings, tmp_path / ".flame" / "flame.yaml"
    file.parent.mkdir(parents=True)
    file.write_text('modell = "x"\nhistory = -1\n')
    told = broken("status", "--json", code=2)
    assert told.error == {"code": "usage", "message": f"{file}: there is no setting modell. Did you mean model?"}
    check("status", told.json)
    assert told.json["problem"].splitlines() == [
        f"{file}: there is no setting modell. Did you mean model?",
        "FLAME_AGENT_TIMEOUT is a number of seconds, not 'soon'.",
        "FLAME_AGENT_STREAM is 1 or 0, not 'no'.",
        f"history in {file} is a number above 0 or all, not '-1': 200 is used.",
        "AGENT_API is chat or responses, not 'soap'.",
    ]
    assert told.json["settings"]["history"] == {"value": "-1", "source": f"history in {file}"}
    assert told.json["settings"]["stream"] == {"value": "no", "source": "FLAME_AGENT_STREAM"}
    shown = broken("status", code=2)
    assert shown.err == "" and "\nhistory         -1 (settings file)\n" in shown.out
    assert "embedded, not running" in shown.out and "advice" not in shown.out

    file.write_text('ca_file = "ca.crt"\n')
    flame.parent.mkdir()
    flame.write_text(": : :")
    unread = own.having(HOME=str(tmp_path))("status", code=2).out
    assert unread.startswith("engine          not known\nagent           openai-agent, registration unknown\n")
    assert f"problem         {flame} cannot be read as YAML (line 1): " in unread
    assert "ca_file         ca.crt (settings file)\n" in unread
    wrong = own.having(HOME=str(tmp_path))("status", "--endpoint", "ftp://x", code=2).out
    assert "problem         --endpoint is not an endpoint: 'ftp://x'. It looks like http://127.0.0.1:8080.\n" in wrong


def test_status_of_a_cluster_says_whether_it_is_one(own: Program, tmp_path: Path) -> None:
    where = own("engine", "start", "--json").json
    own = own.having(LOCALFLAME_HOME=str(tmp_path / "another"))  # to whom that engine is any Flame
    cluster = own.having(FLAME_ENDPOINT=where["endpoint"], FLAME_CACHE_ENDPOINT=where["cache_endpoint"])
    assert cluster.having(AGENT_MODEL="gpt-x")("status").out == (
        "engine          cluster, reachable\n"
        f"                {where['endpoint']}\n"
        "agent           openai-agent, not registered\n"
        f"runs            agent in {ROOT}\n"
        f"chosen by       {ROOT / 'openai-agent.yaml'}\n"
        "model           what the cluster's executor managers have set\n"
        f"advice          The application openai-agent is not registered with the Flame at {where['endpoint']}. "
        "Register it first: flmctl register -f openai-agent.yaml\n"
        "\n"
        "Settings\n"
        f"endpoint        {where['endpoint']} (FLAME_ENDPOINT)\n"
        f"cache_endpoint  {where['cache_endpoint']} (FLAME_CACHE_ENDPOINT)\n"
        "timeout         330 (default)\n"
        "stream          true (default)\n"
        "model           gpt-x (AGENT_MODEL, without effect here)\n"
        f"base_url        {own.environment['OPENAI_BASE_URL']} (OPENAI_BASE_URL, without effect here)\n"
        f"settings file   {own.settings} (not there)\n"
    )
    cacheless = own("status", "--json", "--endpoint", where["endpoint"]).json
    beside = f"grpc://{where['endpoint'].split('://')[1].split(':')[0]}:9090"
    assert cacheless["settings"]["cache_endpoint"] == {"value": beside, "source": "beside the frontend"}
    assert (cacheless["reachable"], cacheless["problem"]) == (True, f"The object cache at {beside} does not answer.")
    assert cacheless["advice"].endswith("say where it is with --cache-endpoint, or in FLAME_CACHE_ENDPOINT.")
    missing = cluster("-m", "hello", code=5)
    assert (missing.out, missing.err.endswith("flmctl register -f openai-agent.yaml\n")) == ("", True)
    assert cluster("-m", "hello", "--json", code=5).error["code"] == "not_registered"
    assert cluster("sessions").err == 'There are no sessions yet. Begin one: uv run client.py -m "who are you?"\n'


def test_the_place_of_a_cluster_is_an_option_before_or_behind_the_command(own: Program, tmp_path: Path) -> None:
    session = own("-m", "who are you?", "--json").json["session_id"]
    where = own("engine", "status", "--json").json
    frontend, cache = ("--endpoint", where["endpoint"]), ("--cache-endpoint", where["cache_endpoint"])
    wrong = {"FLAME_ENDPOINT": "http://127.0.0.1:1", "FLAME_CACHE_ENDPOINT": "grpc://127.0.0.1:1"}
    elsewhere = own.having(**wrong, HOME=str(tmp_path), LOCALFLAME_HOME=str(tmp_path / "none"))
    elsewhere = elsewhere.having(FLAME_AGENT_USER=getpass.getuser())  # whose session it is; a cluster is not told
    (tmp_path / ".flame").mkdir()
    (tmp_path / ".flame" / "flame.yaml").write_text(": : :")
    assert elsewhere("-q", "-s", session, "-m", "and now?", *frontend, *cache).out == "answer 2: and now?\n"
    assert "answer 2" in elsewhere(*frontend, *cache, "history", session).out
    named = elsewhere(*frontend, "sessions", *cache, "rename", session, "A title").out
    assert named == f"Renamed {session}: A title\n"
    assert elsewhere(*cache, "sessions", "rename", session, "Another", *frontend).out.endswith("Another\n")
    assert elsewhere("history", session, *frontend, code=5).err.startswith(
        "The object cache at grpc://127.0.0.1:1 does not answer"
    )
    assert not (tmp_path / "none").exists()
    said = elsewhere("sessions", *frontend, "--cache-endpoint", "ftp://x", code=2).err
    assert said == "--cache-endpoint is not an endpoint: 'ftp://x'. It looks like grpc://127.0.0.1:9090.\n"
    assert own("--ca-file", "ca.crt", "sessions", code=2).err == (
        "--ca-file: only a Flame cluster has that, and none is named. Give --endpoint.\n"
    )
    elsewhere.settings.parent.mkdir(parents=True, exist_ok=True)
    elsewhere.settings.write_text('endpoint = "ftp://y"\n')
    from_file = elsewhere.having(FLAME_ENDPOINT=None)("sessions", code=2).err
    assert from_file.startswith(f"endpoint in {elsewhere.settings} is not an endpoint: 'ftp://y'.")
    with connect(where["endpoint"], environ=wrong, cache_endpoint=where["cache_endpoint"]) as client:
        assert client.history(session).conversation is not None


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web_server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def nobody() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and not listening: nobody else gets the port
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("what", ["nobody", "web_server", "silent"])
def test_an_endpoint_that_is_not_flame_is_one_sentence(
    embedded: Program, what: str, request: pytest.FixtureRequest
) -> None:
    endpoint: str = request.getfixturevalue(what)
    configured = embedded.having(FLAME_ENDPOINT=endpoint)
    status = configured.start("status")
    machine = configured.start("-m", "hello", "--json")
    for failed in together(configured, ["-m", "hello"], ["sessions"], ["history", "X"], ["close", "X"], code=5):
        assert failed.out == ""
        assert endpoint in failed.err and failed.err.count("\n") == 1
    assert ended(machine, code=5).error["code"] == "no_engine"
    told = ended(status).out
    assert told.startswith(f"engine          cluster, not reachable\n                {endpoint}\n")
    assert "advice          Start that Flame, or name another: FLAME_ENDPOINT says where it is. Where" in told


def test_an_endpoint_that_nobody_has_is_told_in_plain_words(embedded: Program, nobody: str) -> None:
    unknown = embedded("sessions", "--endpoint", "flame.invalid", code=5)
    assert unknown.err == "Nobody answers as Flame at http://flame.invalid (no machine is known as flame.invalid).\n"
    refused = embedded("sessions", "--endpoint", nobody, code=5)
    assert refused.err == f"Nobody answers as Flame at {nobody} (Connection refused).\n"


@pytest.mark.parametrize("endpoint", ["nonsense:port:1", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999"])
def test_an_endpoint_that_is_no_address_is_a_usage_error(embedded: Program, endpoint: str) -> None:
    assert "not an endpoint" in embedded("--endpoint", endpoint, "-m", "hello", code=2).err
    assert "not an endpoint" in embedded("sessions", "--endpoint", endpoint, code=2).err
    told = embedded.having(FLAME_ENDPOINT=endpoint)("status", code=2).out
    assert f"problem         FLAME_ENDPOINT is not an endpoint: {endpoint!r}" in told
    assert f"\nendpoint        {endpoint} (FLAME_ENDPOINT)\n" in told


def test_a_flame_yaml_names_the_cluster_or_the_error(embedded: Program, tmp_path: Path, nobody: str) -> None:
    file = tmp_path / ".flame" / "flame.yaml"
    file.parent.mkdir()
    configured = embedded.having(HOME=str(tmp_path))
    file.write_text(f"current-context: a\ncontexts: [{{name: a, cluster: {{endpoint: '{nobody}'}}}}]\n")
    assert nobody in configured("-m", "hello", code=5).err
    for broken in (": : :", "[]", "current-context: b"):
        file.write_text(broken)
        assert str(file) in configured("-m", "hello", code=2).err


def test_a_home_that_cannot_be_written_is_one_sentence(embedded: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    failed = embedded.having(LOCALFLAME_HOME=str(tmp_path / "file" / "home"))("-m", "hello", code=5)
    assert failed.out == ""
    assert "cannot be used" in failed.err and "LOCALFLAME_HOME" in failed.err and failed.err.count("\n") == 1


def test_a_description_of_the_application_that_is_none_is_a_usage_error(own: Program, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for part in ("flameagent", "localflame", "agent.py", "apis.py", "client.py"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, checkout / part)
    copied = Program(own.environment, checkout)
    for broken in (
        "\0",
        "a: [",
        "- a list",
        "metadata: {name: 'with space'}\nspec: {}",
        "metadata: {name: x}",
        "\xff",
    ):
        (checkout / "openai-agent.yaml").write_bytes(broken.encode("latin-1"))
        failed = copied("-m", "hello", code=2)
        assert failed.out == "" and "openai-agent.yaml" in failed.err and failed.err.count("\n") == 1
    assert not Path(own.environment["LOCALFLAME_HOME"]).exists()

    (checkout / "openai-agent.yaml").write_text(
        "metadata: {name: my-agent}\nspec: {environments: {WHO: '${WHO_NAME}', AGENT_MODEL: of-the-application, "
        "AGENT_HISTORY: '${HOW_MUCH}'}}"
    )
    done = copied("-m", "hello", "--json").json
    assert done["model"] == "of-the-application"
    status = copied("status").out
    assert "\nmodel           of-the-application (openai-agent.yaml)\n" in status
    assert "\nhistory         200 (default)\n" in status and "problem" not in status
    some = copied.having(HOW_MUCH="8")("status").out
    assert "\nhistory         8 (openai-agent.yaml)\n" in some
    assert done["session_id"].startswith("my-agent-")
    assert [session["session_id"] for session in copied("sessions", "--json").json] == [done["session_id"]]


@pytest.mark.local_model
@pytest.mark.timeout(300)
def test_the_first_command_needs_no_key(own: Program) -> None:
    pytest.importorskip("xllamacpp", reason="the dependency group `local` is not installed")
    keyless = own.having(OPENAI_API_KEY=None, OPENAI_BASE_URL=None)
    done = keyless("-m", "who are you?")
    answer = done.out.partition("\n\nSession History")[0]
    assert answer.strip()
    assert done.err.startswith("No key is set: the small local model answered.\nFor a better model, export ")
    assert eventually(lambda: keyless("history", done.err.split(" -s ")[1].split()[0])).out.count("Turn 1 ") == 1
    again = keyless("-c", "-m", "and what can you do?")
    assert again.err.startswith("No key is set: the small local model answered.\nGo on: ")
    chosen = keyless("-c", "--model", "local", "-m", "and now?")
    assert chosen.err.startswith("Answered by SmolLM2-135M-Instruct (local).\nGo on: ")


def test_nothing_of_the_project_is_needed_in_the_folder_of_the_caller(embedded: Program, tmp_path: Path) -> None:
    (tmp_path / "apis.py").write_text("raise SystemExit('the wrong apis')")
    assert embedded.having(HOME=str(tmp_path))("status", "--json").json["engine"] == "embedded"


def test_a_cluster_whose_cache_is_away_for_a_moment_is_waited_for(own: Program) -> None:
    own("-m", "who are you?")  # which registers the agent
    where = own("engine", "status", "--json").json
    with Door(where["cache_endpoint"]) as door:
        cluster = own.having(FLAME_ENDPOINT=where["endpoint"], FLAME_CACHE_ENDPOINT=door.url)
        door.close(3)
        asked = cluster("-m", "hello", "--json").json
        assert (asked["answer"], door.closed) == ("answer 1: hello", 0)
        door.close(3)
        assert cluster("retry", asked["session_id"], "-q").out == "answer 1: hello\n"
        assert door.closed == 0
