"""Numpy, which Arrow's import brings, stays away from processes that are this program's alone, and from no others."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("numpy")
pytest.importorskip("pyarrow")

LOOK = """
import json, sys
from flamewire import arrow
{first}
import flameagent.flame.flight_cache, localflame.cache
import pyarrow
loaded = "numpy" in sys.modules
import numpy
print(json.dumps([loaded, pyarrow.array([1, 2]).to_pylist(), int(numpy.array([1, 2]).sum())]))
"""


@pytest.mark.parametrize(("first", "loaded"), [("", True), ("arrow.process_is_ours()", False)])
def test_who_shares_a_process_with_us_has_arrow_whole(first: str, loaded: bool) -> None:
    program = LOOK.format(first=first)
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [loaded, [1, 2], 3]


COMMAND = """
import sys
import flameagent.cli.app as app

def run():
    import flameagent.client.client
    from flameagent.flame import Endpoints
    from flameagent.flame.cache import ObjectCache

    print("pyarrow" in sys.modules, "numpy" in sys.modules)
    ObjectCache(Endpoints("http://127.0.0.1:1", "grpc://127.0.0.1:1"))  # a cluster's
    print("pyarrow" in sys.modules, "numpy" in sys.modules)

app.main = run
from flameagent.cli import main
main()
"""


def test_the_command_line_does_without_it_and_without_arrow_where_there_is_no_cluster() -> None:
    found = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True, check=True)
    assert found.stdout == "False False\nTrue False\n"
