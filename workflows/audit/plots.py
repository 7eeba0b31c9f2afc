"""What the page draws: numbers with names, made ready here and drawn by the page's own script.

A plot is data, no geometry, so that the reader can change its scale and leave data sets out. Its table says the same
without a script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workflows.report import text
from workflows.report.figures import Table

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One data set, or one measure, in a plot.

    values      one per part; NaN where there is none
    counts      what the values are shares of, if they are
    low, high   intervals, if there are any
    """

    name: str
    colour: int
    values: Sequence[float]
    counts: Sequence[int] = ()
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Plot:
    """One question and its answer.

    Kinds: bars beside one another, steps of a histogram, points with intervals, lines, and maps of the image.
    `parts` are the names of bars, bins or groups; `edges` are where bins or points lie on the axis.
    """

    title: str
    note: str
    kind: Literal["bars", "steps", "points", "lines", "maps"]
    x_label: str
    y_label: str
    parts: Sequence[str]
    series: Sequence[Series]
    table: Table
    edges: Sequence[float] = ()
    log_x: bool = False
    unit: str = ""
    sql: str = ""
    markers: Sequence[tuple[float, str]] = field(default_factory=tuple)
    cumulates: bool = False
    by_data_set: bool = True

    def spec(self) -> dict[str, object]:
        """What the script needs, for JSON; numbers rounded to what can be seen."""
        return {
            "title": self.title,
            "kind": self.kind,
            "xLabel": self.x_label,
            "yLabel": self.y_label,
            "unit": self.unit,
            "parts": list(self.parts),
            "edges": _rounded(self.edges),
            "logX": self.log_x,
            "cumulates": self.cumulates,
            "byDataSet": self.by_data_set,
            "markers": [{"at": at, "label": label} for at, label in self.markers],
            "series": [
                {
                    "name": one.name,
                    "colour": one.colour,
                    "values": _rounded(one.values),
                    "counts": list(one.counts),
                    "low": _rounded(one.low),
                    "high": _rounded(one.high),
                }
                for one in self.series
            ],
        }


def counted(
    kind: Literal["bars", "steps", "maps"],
    title: str,
    note: str,
    *,
    x_label: str,
    unit: str,
    parts: Sequence[str],
    names: Sequence[str],
    values: Sequence[Floats],
    edges: Sequence[float] = (),
    log_x: bool = False,
    sql: str = "",
) -> Plot:
    """Shares of each data set's total over parts, with the counts beside them."""
    series = [
        Series(name, number, (row / max(row.sum(), 1)).tolist(), [round(count) for count in row.tolist()])
        for number, (name, row) in enumerate(zip(names, values, strict=True))
    ]
    return Plot(
        title,
        note,
        kind,
        x_label,
        f"share of {unit}",
        parts,
        series,
        _counts_table(x_label, parts, series) if kind != "maps" else Table((), ()),
        edges,
        log_x,
        unit,
        sql,
        cumulates=kind == "steps",
    )


def shared(
    title: str,
    note: str,
    *,
    x_label: str,
    unit: str,
    parts: Sequence[str],
    names: Sequence[str],
    values: Sequence[Floats],
    edges: Sequence[float],
) -> Plot:
    """A histogram that is known by its shares alone, as a mean over strata is."""
    series = [Series(name, number, row.tolist()) for number, (name, row) in enumerate(zip(names, values, strict=True))]
    rows = tuple((part, *(f"{100 * one.values[n]:.1f} %" for one in series)) for n, part in enumerate(parts))
    table = Table((x_label, *names), rows)
    return Plot(
        title, note, "steps", x_label, f"share of {unit}", parts, series, table, edges, unit=unit, cumulates=True
    )


def percent_parts(edges: Sequence[float]) -> list[str]:
    """Names of bins of a share: 0–4 %, 4–8 % and so on."""
    return [f"{100 * low:.3g}–{100 * high:.3g} %" for low, high in pairwise(edges)]


def _counts_table(x_label: str, parts: Sequence[str], series: Sequence[Series]) -> Table:
    rows = tuple(
        (part, *(f"{text.count(one.counts[n])} · {text.share(one.counts[n], sum(one.counts))}" for one in series))
        for n, part in enumerate(parts)
    )
    return Table((x_label, *(one.name for one in series)), rows)


def _rounded(values: Sequence[float]) -> list[float | None]:
    return [None if not np.isfinite(value) else float(f"{value:.6g}") for value in values]
