"""The templates of pages, with the words for numbers and times that all of them use."""

from __future__ import annotations

import shlex

import jinja2

from workflows.progress import plural
from workflows.report import text


def templates() -> jinja2.Environment:
    """The folder workflows/templates. Every value that goes into a page is escaped; an unknown one is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("workflows", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": text.count, "figures": text.figures, "time": text.time, "quoted": shlex.quote}
    environment.globals["plural"] = plural
    return environment
