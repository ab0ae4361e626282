"""`llm` of Simon Willison, a program of its own, goes on with a chat: which version, the registry says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.server.conftest import Served
from tests.conftest import REAL_MODEL  # has the way to the registry, too

pytestmark = pytest.mark.skipif(
    not os.environ.get("TEST_REGISTRY"), reason="needs a package registry: set TEST_REGISTRY=1"
)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, in an environment of its own."""
    folder = tmp_path_factory.mktemp("llm")
    environ = {name: value for name, value in (os.environ | REAL_MODEL).items() if name != "VIRTUAL_ENV"}
    python = folder / "bin" / "python"
    for command in (
        ["uv", "venv", "--quiet", "--python", sys.executable, str(folder)],
        ["uv", "pip", "install", "--quiet", "--python", str(python), "llm>=0.27"],
    ):
        ran = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
    return folder / "bin" / "llm"


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
def test_llm_goes_on_with_a_chat(served: Served, ada: str, llm: Path, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: mine\n  model_name: openai-agent\n  api_base: {served.url}/v1\n  api_key_name: mine\n"
    )
    (tmp_path / "keys.json").write_text(f'{{"mine": "{ada}"}}')
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LLM_USER_PATH": str(tmp_path)}

    def run(*arguments: str) -> str:
        ran = subprocess.run([llm, *arguments, *options], env=environ, capture_output=True, text=True, input="")
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert run("-m", "mine", "My name is Ada.").strip() == "answer 1: My name is Ada."
    assert run("-c", "What is my name?").strip() == "answer 2: What is my name?"
    assert (
        "answer 2: What is my name?"
        in subprocess.run([llm, "logs", "-n", "1", "-u"], env=environ, capture_output=True, text=True).stdout
    )
