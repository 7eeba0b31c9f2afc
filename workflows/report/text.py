"""Numbers and times as people read them."""

from __future__ import annotations

import math
from datetime import datetime


def count(number: int) -> str:
    """12345 -> 12,345."""
    return f"{number:,}"


def share(part: float, whole: float) -> str:
    """1, 8 -> 12.5 %; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def figures(value: float | None, digits: int = 3) -> str:
    """A number to so many significant figures, without exponent and without noise; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def time(moment: datetime | None) -> str:
    """A UTC time to the minute; a dash for none."""
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "–"
