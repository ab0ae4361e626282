"""Resources as Flame's configuration writes them."""

from __future__ import annotations

import pytest

from flameagent.flame.resources import Resources


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu=0,mem=64m", (0, 64 * 1024**2, 0)),
        ("cpu=2, memory=4G, gpu=1", (2, 4 * 1024**3, 1)),
        ("mem=512MiB", (0, 512 * 1024**2, 0)),
        ("MEM=1gb", (0, 1024**3, 0)),
        ("mem=1024", (0, 1024, 0)),
        ("mem=3 k", (0, 3072, 0)),
        ("gpu=0", (0, 0, 0)),
    ],
)
def test_they_are_read_as_flame_reads_them(text: str, expected: tuple[int, int, int]) -> None:
    assert Resources.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "64m", "mem", "mem=", "mem=-1", "mem=1x", "mem=1.5e", "cpu=1.5", "cpu=1,", "disk=1g", "cpu=1,cpu=2"),
        *("mem=1m,memory=1m", "cpu=9" + "9" * 30, "mem=99999999t", "gpu=2147483648", "cpu=\u0661", "cpu==1"),
        "mem=1m;cpu=1",
    ],
)
def test_what_is_none_is_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is resources such as cpu=0,mem=64m, not "):
        Resources.parse(text)
