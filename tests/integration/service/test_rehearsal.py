"""The rehearsal: it runs whole turns, and leaves nothing but what it has imported and made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import certifi
import pytest

from tests.support.shim import ROOT

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it looks into /proc")

_LOOKS = """
import json, os, sys
from flameagent.service.process import nursery
from flameagent.service.models import build
build.prepare()
from flameagent.service.process import rehearsal
from flameagent.service.models import build as models

answers = []
asked = rehearsal._Instance.asked

async def noted(instance, question):
    answer = await asked(instance, question)
    answers.append(answer.answer or answer.error)
    return answer

rehearsal._Instance.asked = noted
import pyarrow
from flameagent.service import steering
steering._EVERY = 0.001  # it looks, however fast the turns are
before = dict(os.environ), nursery._threads(), nursery._open_descriptors()
rehearsal.rehearse()
after = dict(os.environ), nursery._threads(), nursery._open_descriptors()
from flameagent import network
read = network._read_context.cache_info().misses
network.client_options(os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1"), os.environ)
print(json.dumps({
    "same": before == after, "answers": answers, "cached": models.build.cache_info().currsize,
    "authorities read": [read, network._read_context.cache_info().misses],
    "modules": sorted(name for name in sys.modules if name.startswith("openai.resources.")),
}))
"""


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:1"], ids=["direct", "proxy"])
def test_it_runs_turns_and_leaves_nothing(tmp_path: Path, api: str, proxy: str) -> None:
    environment = {"PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "k", "AGENT_API": api, "HTTP_PROXY": proxy}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOOKS], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    found = json.loads(done.stdout)
    assert found["same"] and found["cached"] == 0
    assert len(found["answers"]) > 8 and set(found["answers"]) == {"Hello."}
    assert f"openai.resources.{'chat.completions' if api == 'chat' else 'responses'}" in found["modules"]


def test_the_authorities_to_trust_are_read_for_all(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "k", "SSL_CERT_FILE": certifi.where()}
    done = subprocess.run(
        [sys.executable, "-c", _LOOKS], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    during, after = json.loads(done.stdout)["authorities read"]
    assert during == after == 2  # those that are named, and the system's for the model of the rehearsal


@pytest.mark.parametrize("model", [{}, {"AGENT_MODEL": "nobody/knows"}], ids=["local", "unusable"])
def test_where_no_server_is_asked_there_is_none(tmp_path: Path, model: dict[str, str]) -> None:
    environment = {"PYTHONPATH": str(ROOT), **model}
    done = subprocess.run(
        [sys.executable, "-c", _LOOKS], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["answers"] == []
