"""Bins of histograms: chosen from the extent of a column, counted by DuckDB, drawn by the charts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workflows.report.charts import nice_step
from workflows.report.text import figures

_BINS = 30
_BINS_PER_DECADE = 10


@dataclass(frozen=True, slots=True)
class Bins:
    """Bins of equal width: bin k reaches from first + k to first + k + 1 times `width`, of the logarithm where log."""

    first: int
    count: int
    width: float
    kind: Literal["whole", "real", "log"]

    @property
    def edges(self) -> NDArray[np.float64]:
        """float [count + 1]."""
        places = (self.first + np.arange(self.count + 1)) * self.width
        return np.asarray(10.0**places if self.kind == "log" else places)

    @property
    def names(self) -> list[str]:
        """What each bin holds, for people."""
        if self.kind == "whole":
            spans = [(int(low), int(high) - 1) for low, high in pairwise(self.edges)]
            return [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in spans]
        return [f"{figures(low, 4)} to {figures(high, 4)}" for low, high in pairwise(self.edges)]

    def sql(self, value: str) -> str:
        """The number of a value's bin, from 0. The lowest and the highest value belong to the first and last bin, also
        where rounding puts them beside it. FLOAT is divided as DOUBLE, as the bins were chosen."""
        exact = f"({value})::DOUBLE"
        place = f"log10({exact})" if self.kind == "log" else exact
        number = f"floor({place} / {self.width:g})::INT - {self.first}".replace("- -", "+ ")
        return f"least(greatest({number}, 0), {self.count - 1})"


def whole_bins(high: int) -> Bins:
    """Bins for whole numbers from 0 on, each holding as many of them."""
    width = max(1, round(nice_step(high + 1, _BINS)))
    return Bins(0, high // width + 1, width, "whole")


def real_bins(low: float, high: float) -> Bins:
    """Bins for real numbers; one bin where all are equal."""
    width = nice_step(high - low, _BINS) if high > low else 0.01
    first = math.floor(low / width)
    return Bins(first, max(1, math.ceil(high / width) - first), width, "real")


def log_bins(low: float, high: float) -> Bins:
    """Bins for positive numbers, ten to a decade."""
    first = math.floor(math.log10(low) * _BINS_PER_DECADE)
    last = math.ceil(math.log10(high) * _BINS_PER_DECADE)
    return Bins(first, max(1, last - first), 1 / _BINS_PER_DECADE, "log")
