"""The memory of a nursery: what its workers make does not lie between what they share."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.shim import ROOT

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nurseries are Linux's")

_LOOKS = """
import gc, json, sys
from flameagent.service.process import nursery

_POOL = 16384

def made(size):
    return [bytes(size - sys.getsizeof(b"")) for _ in range(20_000)]

sizes = [48, 64, 160, 512]
kept = [made(size)[::2] for size in sizes]
gc.collect()
pools = {id(each) // _POOL for some in kept for each in some}
filling = nursery._fill_holes() if sys.argv[1] == "filled" else []
new = [each for size in sizes for each in made(size)[:1000]]
print(json.dumps(sum(id(each) // _POOL in pools for each in new) / len(new)))
"""


@pytest.mark.parametrize(("how", "least", "most"), [("filled", 0.0, 0.2), ("as it is", 0.5, 1.0)])
def test_new_objects_lie_together(how: str, least: float, most: float) -> None:
    done = subprocess.run([sys.executable, "-c", _LOOKS, how], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not done.stderr
    assert least <= json.loads(done.stdout) <= most
