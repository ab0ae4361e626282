"""`python -m benchmarks.plot FILE` draws the turns' lines, which it reads as JSON, into a PNG. Needs matplotlib."""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

STYLES = {"sqlite": "o--", "memory": "s--", "bare": "^:", "naive": "v--", "all": "o-", "window": "D-"}


def main() -> None:
    """Draw."""
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for line in json.load(sys.stdin):
        width = 2.5 if line["kind"] in ("all", "window") else 1.2
        sizes = [max(size, 1) for size in line["sizes"]]
        axes.plot(sizes, line["ms"], STYLES[line["kind"]], label=line["label"], linewidth=width)
    axes.set(xscale="log", yscale="log", xlabel="items before the turn", ylabel="ms a turn (p50)")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(sys.argv[1], dpi=120)


if __name__ == "__main__":
    main()
