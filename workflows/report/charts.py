"""Charts as geometry: where the marks lie, in percent of the plot. The template draws them as inline SVG.

Percent rather than pixels, so that a plot takes any width while its text keeps its size. x to the right, y down, as in
SVG. `series` is the position of a run, or of a part, and decides the colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float64]

_GAP = 0.24  # of a group of bars, left empty
_ROUND = 3  # decimals of a percent


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled rectangle; `title` is shown on hover."""

    x: float
    y: float
    width: float
    height: float
    series: int
    title: str = ""


@dataclass(frozen=True, slots=True)
class Outline:
    """The steps of one series of a histogram: an SVG path over a plot of 100 by 100."""

    path: str
    series: int


@dataclass(frozen=True, slots=True)
class Marker:
    """A vertical line with a meaning, such as a threshold; `series` is None when it holds for all."""

    x: float
    label: str
    series: int | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot with two axes. `columns` cover the plot from left to right and carry what is shown on hover."""

    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...] = ()
    outlines: tuple[Outline, ...] = ()
    columns: tuple[Bar, ...] = ()
    markers: tuple[Marker, ...] = ()


@dataclass(frozen=True, slots=True)
class Stack:
    """One horizontal bar per run, cut into parts; the series of a bar is its part."""

    rows: tuple[tuple[Bar, ...], ...]


def nice_step(span: float, steps: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that covers `span` in at most `steps` steps; 1 for no span."""
    if not span > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / steps))
    return next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor * steps >= span * (1 - 1e-9))


def grouped_bars(
    groups: Sequence[str],
    heights: Shares,
    *,
    titles: Sequence[Sequence[str]],
    x_label: str,
    y_label: str,
    unit: str = "%",
) -> Chart:
    """Bars side by side in named groups.

    Args:
        heights: float [series, groups], 0 or more.
        titles: hover text of each bar, [series][groups].
        unit: of the heights, behind the numbers of the axis.
    """
    top, y_ticks = _upward(float(heights.max(initial=0.0)), unit)
    band = 100 / len(groups)
    width = band * (1 - _GAP) / len(heights)
    bars = [
        Bar(
            x=_percent(band * (group + _GAP / 2) + width * series),
            y=_percent(100 - 100 * height / top),
            width=_percent(width),
            height=_percent(100 * height / top),
            series=series,
            title=titles[series][group],
        )
        for series, row in enumerate(heights)
        for group, height in enumerate(row)
    ]
    x_ticks = tuple(Tick(_percent(band * (group + 0.5)), label) for group, label in enumerate(groups))
    return Chart(x_label, y_label, x_ticks, y_ticks, bars=tuple(bars))


def histogram(
    edges: Shares,
    heights: Shares,
    *,
    titles: Sequence[str],
    x_label: str,
    y_label: str,
    log: bool = False,
    markers: Sequence[Marker] = (),
) -> Chart:
    """Steps over bins, one outline per series, in percent.

    Args:
        edges: float [bins + 1], rising; positive on a logarithmic axis.
        heights: float [series, bins], 0 or more.
        titles: hover text of each bin.
        log: whether the x axis is logarithmic; its ticks are then powers of ten.
        markers: their x is a value on the axis; those off the plot are left out.
    """
    top, y_ticks = _upward(float(heights.max(initial=0.0)))
    scale = _Scale(float(edges[0]), float(edges[-1]), log)
    at = [scale.percent(float(edge)) for edge in edges]
    columns = [
        Bar(x, 0, _percent(end - x), 100, 0, title) for (x, end), title in zip(pairwise(at), titles, strict=True)
    ]
    outlines = [Outline(_steps(at, 100 - 100 * row / top), series) for series, row in enumerate(heights)]
    placed = [replace(line, x=scale.percent(line.x)) for line in markers if line.x > 0 or not log]
    return Chart(
        x_label,
        y_label,
        scale.ticks(),
        y_ticks,
        outlines=tuple(outlines),
        columns=tuple(columns),
        markers=tuple(line for line in placed if 0 <= line.x <= 100),
    )


def stacked(parts: Shares, *, titles: Sequence[Sequence[str]]) -> Stack:
    """Horizontal bars of parts; the longest bar fills the width.

    Args:
        parts: float [bars, parts], 0 or more.
        titles: hover text of each part, [bars][parts].
    """
    longest = float(parts.sum(axis=1).max(initial=0.0)) or 1.0
    widths = 100 * parts / longest
    starts = np.cumsum(widths, axis=1) - widths
    return Stack(
        tuple(
            tuple(
                Bar(_percent(start), 0, _percent(width), 100, part, title)
                for part, (start, width, title) in enumerate(zip(*row, strict=True))
                if width > 0
            )
            for row in zip(starts, widths, titles, strict=True)
        )
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values on the x axis to percent of the plot."""

    low: float
    high: float
    log: bool

    def percent(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return _percent(100 * (value - low) / (high - low))

    def ticks(self) -> tuple[Tick, ...]:
        values = _decades(self.low, self.high) if self.log else _multiples(self.low, self.high, 5)
        return tuple(Tick(self.percent(value), label) for value, label in values)


def _upward(highest: float, unit: str = "%") -> tuple[float, tuple[Tick, ...]]:
    """The top of an axis from 0, and its ticks."""
    step = nice_step(highest, 4)
    top = step * max(1, math.ceil(highest / step - 1e-9))
    return top, tuple(
        Tick(_percent(100 - 100 * value / top), f"{label} {unit}".rstrip()) for value, label in _multiples(0, top, 4)
    )


def _multiples(low: float, high: float, steps: int) -> list[tuple[float, str]]:
    """Round numbers from low to high, at most `steps` + 1 of them, and their labels."""
    step = nice_step(high - low, steps)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, f"{k * step:,.{decimals}f}") for k in range(first, last + 1)]


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten from low to high; with 2 and 5 times them where there are few."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    factors = (1,) if last - first > 3 else (1, 2, 5)
    values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [(value, f"{value:g}") for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def _steps(at: Sequence[float], tops: Shares) -> str:
    """An area from the base line up to `tops` over each bin."""
    across = "".join(f"V{_percent(top):g}H{end:g}" for top, end in zip(tops, at[1:], strict=True))
    return f"M{at[0]:g} 100{across}V100Z"


def _percent(value: float) -> float:
    return round(float(value), _ROUND)
