"""The tables of the README and of the determinism budget as Markdown, from recorded results.

python -m tests.benchmarks.table [targets|determinism]
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import tyro

from tests.benchmarks.targets import DETERMINISM, TARGETS, Record, Target

NOT_MEASURED = "not measured"
NO_GPU = "not measured: needs a GPU"


@dataclass(frozen=True, slots=True)
class Options:
    """Prints a table of recorded results as Markdown."""

    which: tyro.conf.Positional[Literal["targets", "determinism"]] = "targets"
    """targets: what the generator is held to, and reaches; determinism: the masks that change."""


def targets() -> str:
    """Work, target and measured figures; and what they were measured on."""
    rows = [(target.work, target.target, figures(target)) for target in TARGETS]
    return table(("work (same weights, same recipe)", "target", "measured"), rows) + provenance()


def determinism() -> str:
    """Masks lost, gained and changed by each variant of the generator. Raises FileNotFoundError when never measured."""
    record = json.loads(DETERMINISM.path.read_text())
    rows = [
        (
            row["variant"],
            f"{row['lost']:,}",
            f"{row['gained']:,}",
            f"{row['changed']:,}",
            f"{100 * row['images_with_another_count']:.1f} %",
        )
        for row in record["rows"]
    ]
    head = ("compared with the plain path in fp32", "lost", "gained", "IoU < 0.99", "images with another count")
    what = f"{record['rows'][0]['masks']:,} masks of `{record['model']['name']}` on {record['images']} images of"
    where = f"{machine(record)}, commit {record['commit']}"
    return table(head, rows) + f"\n{what} {record['data']}, recipe `{record['recipe']}`; {where}.\n"


def figures(target: Target) -> str:
    """What was measured, or that it was not."""
    if target.path.exists():
        return target.tell(json.loads(target.path.read_text()))
    return NO_GPU if target.needs_gpu else NOT_MEASURED


def provenance() -> str:
    """Every machine that the targets' records come from, with the commits that were measured there."""
    commits: defaultdict[str, set[str]] = defaultdict(set)
    for path in {target.path for target in TARGETS if target.path.exists()}:
        record = json.loads(path.read_text())
        commits[machine(record)].add(record["commit"])
    lines = [f"{where}, commit{'s' * (len(of) > 1)} {', '.join(sorted(of))}" for where, of in sorted(commits.items())]
    return f"\nMeasured on {'; '.join(lines)}.\n" if lines else ""


def machine(record: Record) -> str:
    return f"{record['machine']}, torch {record['versions']['torch']}"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    print(targets() if tyro.cli(Options).which == "targets" else determinism(), end="")


if __name__ == "__main__":
    main()
