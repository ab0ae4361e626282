"""`python -m benchmarks.plot_density FILE` draws crowds, which it reads as JSON, into a PNG. Needs matplotlib."""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot, ticker

PANELS = {"new": "turns a second, six each, from new", "memory": "MB of all processes"}


def main() -> None:
    """Draw."""
    crowds = json.load(sys.stdin)
    figure, panels = pyplot.subplots(1, len(PANELS), figsize=(9, 3.6), layout="constrained")
    for axes, (what, title) in zip(panels, PANELS.items(), strict=True):
        for forked, label, style in ((True, "forked of a nursery", "o-"), (False, "each imports by itself", "s--")):
            taken = [crowd for crowd in crowds if crowd["forked"] is forked]
            axes.plot([crowd["sessions"] for crowd in taken], [crowd[what] for crowd in taken], style, label=label)
        axes.set(xscale="log", yscale="log", xlabel="conversations at once", title=title)
        axes.set_xticks(sorted({crowd["sessions"] for crowd in crowds}))
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(ticker.NullLocator())
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
