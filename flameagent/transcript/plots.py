"""Plots of numbers over time as a page draws them in SVG: where each bar, point, line and label is.

Promises numbers and texts alone: what is drawn of them the template says, which escapes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 720, 200
"""Of a plot, in its own units."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 8, 10, 24
_LABELS = 8  # on the axis of time, at most


@dataclass(frozen=True)
class Mark:
    """A bar, `x` and `y` of its corner, or a point; `text` says what it is of."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Series:
    """What is drawn in one colour: bars, or points and the lines between neighbours."""

    name: str
    style: str
    bars: list[Mark] = field(default_factory=list)
    points: list[Mark] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tick:
    """A label of an axis, and where it is."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """A plot with its `title`; `summary` says in words what it shows, and the rows are its numbers."""

    title: str
    summary: str
    series: list[Series]
    across: list[Tick]
    up: list[Tick]
    head: list[str]
    rows: list[list[str]]
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Values:
    """Numbers over time under a name; None where there is none. `style` is their colour's."""

    name: str
    style: str
    numbers: Sequence[float | None]


def bars(
    title: str, summary: str, times: Sequence[str], stacked: Sequence[Values], tell: Callable[[float], str]
) -> Plot:
    """Bars, of which those of later values stand on those of the ones before."""
    sums = [sum(each.numbers[at] or 0 for each in stacked) for at in range(len(times))]
    top, up = _scale(max(sums, default=0), tell)
    step = _step(times)
    base, series = [0.0] * len(times), []
    for values in stacked:
        drawn = []
        for at, number in enumerate(values.numbers):
            if number:
                height = _height(number, top)
                y = HEIGHT - _BOTTOM - base[at] - height
                text = f"{times[at]}: {tell(number)} {values.name}"
                drawn.append(
                    Mark(
                        _round(_LEFT + at * step + step * 0.12), _round(y), _round(step * 0.76), _round(height), text
                    )
                )
                base[at] += height
        series.append(Series(values.name, values.style, bars=drawn))
    return _plot(title, summary, times, stacked, series, up, tell)


def points(
    title: str, summary: str, times: Sequence[str], several: Sequence[Values], tell: Callable[[float], str]
) -> Plot:
    """Points, joined where they are neighbours."""
    top, up = _scale(max((number or 0 for each in several for number in each.numbers), default=0), tell)
    step, series = _step(times), []
    for values in several:
        drawn, line, lines = [], list[str](), []
        for at, number in enumerate([*values.numbers, None]):
            if number is None:
                if len(line) > 1:
                    lines.append(" ".join(line))
                line = []
                continue
            x, y = _round(_LEFT + (at + 0.5) * step), _round(HEIGHT - _BOTTOM - _height(number, top))
            drawn.append(Mark(x, y, 0, 0, f"{times[at]}: {values.name} {tell(number)}"))
            line.append(f"{x},{y}")
        series.append(Series(values.name, values.style, points=drawn, lines=lines))
    return _plot(title, summary, times, several, series, up, tell)


def _plot(
    title: str,
    summary: str,
    times: Sequence[str],
    values: Sequence[Values],
    series: list[Series],
    up: list[Tick],
    tell: Callable[[float], str],
) -> Plot:
    step, every = _step(times), max(math.ceil(len(times) / _LABELS), 1)
    across = [Tick(_round(_LEFT + (at + 0.5) * step), times[at]) for at in range(0, len(times), every)]
    rows = [
        [time, *("" if number is None else tell(number) for number in numbers)]
        for time, *numbers in zip(times, *(each.numbers for each in values), strict=True)
        if any(numbers)
    ]
    return Plot(title, summary, series, across, up, ["", *(each.name for each in values)], rows)


def _scale(most: float, tell: Callable[[float], str]) -> tuple[float, list[Tick]]:
    """The number at the top, and the ticks of the axis: three to six, of round numbers, from 0 on."""
    if most <= 0:
        return 1.0, [Tick(float(HEIGHT - _BOTTOM), tell(0))]
    rough = most / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    count = math.ceil(most / step - 1e-9)
    ticks = [
        Tick(_round(HEIGHT - _BOTTOM - _height(step * at, step * count)), tell(step * at)) for at in range(count + 1)
    ]
    return step * count, ticks


def _height(number: float, top: float) -> float:
    return number / top * (HEIGHT - _TOP - _BOTTOM)


def _step(times: Sequence[str]) -> float:
    return (WIDTH - _LEFT - _RIGHT) / max(len(times), 1)


def _round(number: float) -> float:
    return round(number, 1)
