"""The figures as a table for people: ours above, the paper's below."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from workflows.evaluate.task import MEASURED, PAPER, Figure

_LONGEST = 200
"""Characters of a line where no terminal says how wide it is."""
_UNBOUNDED = 10_000
_PREFIXES = ((MEASURED, ""), (PAPER, "paper: "))


def show(task: str, model: str, figures: Sequence[Figure]) -> None:
    """Print rows of sets or groups, columns of figures; percent times 100."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_LONGEST)
    console.print(fitting(console, task, model, figures))


def fitting(console: Console, task: str, model: str, figures: Sequence[Figure]) -> Table:
    """The table, or a number a line where a console is too narrow to show each."""
    table = as_table(task, model, figures)
    least = Measurement.get(console, console.options.update(max_width=_UNBOUNDED), table).minimum
    return table if least <= console.width else as_lines(task, model, figures)


def as_table(task: str, model: str, figures: Sequence[Figure]) -> Table:
    """A row for each set or group; names are text as it stands, also where they look like markup."""
    names = list(dict.fromkeys(figure.figure for figure in figures))
    table = Table(title=Text(f"{task}: {model}"))
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(Text(name), justify="right")
    for origin, prefix in _PREFIXES:
        part = [figure for figure in figures if figure.origin == origin]
        for row in dict.fromkeys(figure.row for figure in part):
            cells = {figure.figure: cell(figure) for figure in part if figure.row == row}
            table.add_row(Text(f"{prefix}{row}"), *(cells.get(name, "") for name in names))
        table.add_section()
    return table


def as_lines(task: str, model: str, figures: Sequence[Figure]) -> Table:
    """The same with a line for each figure."""
    table = Table(title=Text(f"{task}: {model}"), title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    for origin, prefix in _PREFIXES:
        for figure in figures:
            if figure.origin == origin:
                table.add_row(Text(f"{prefix}{figure.row}"), Text(figure.figure), cell(figure))
    return table


def cell(figure: Figure) -> str:
    """The number as its unit is written, with its interval if it has one."""
    if figure.unit == "count":
        return f"{figure.value:,.0f}"
    if figure.unit == "points":
        return f"{figure.value:+.1f}"
    if figure.unit == "fraction":
        return f"{figure.value:.3f}"
    if figure.low is None or figure.high is None:
        return f"{100 * figure.value:.1f}"
    return f"{100 * figure.value:.1f} ({100 * figure.low:.1f}-{100 * figure.high:.1f})"
