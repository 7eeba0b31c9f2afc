"""What the generator is held to: each piece of work with its target, the command that measures it, and its figures.

    python -m tests.benchmarks.targets --data FOLDER [--only NAME ...] [--threads N]

runs the commands one after the other, those for a GPU only where there is one and those for AMX only where the
processor has it; FOLDER holds `coco128/images`. Records go to tests/benchmarks/results, from which
`python -m tests.benchmarks.table` renders the table of the README.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from sam_core.llvm_tiles import has_tiles
from tests.benchmarks.record import RESULTS
from tests.benchmarks.refusals import refusals

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One row. name: of the record's file; command: module and options; tell: the record's figures in words.

    minutes: CPU minutes that measuring takes. tiles: whether the processor has AMX, where that makes a difference.
    """

    name: str
    work: str
    target: str
    command: str
    minutes: int
    tell: Callable[[Record], str]
    tiles: bool | None = None

    @property
    def path(self) -> Path:
        return RESULTS / f"{self.name}.json"

    @property
    def needs_gpu(self) -> bool:
        return "--device cuda" in self.command


def speed(record: Record) -> str:
    """How much faster, and memory."""
    ours, theirs = record["ours"], record["released"]
    return (
        f"**{record['speedup']:.1f}x**: {ours['seconds']:.1f} instead of {theirs['seconds']:.0f} CPU s; peak "
        f"{ours['peak_memory_gb']:.1f} GB (released: {theirs['peak_memory_gb']:.1f} GB)"
    )


def agreement(record: Record) -> str:
    """Masks matched, and images with equally many."""
    return (
        f"**{100 * record['matched']:.2f} %** of {record['agreement']['reference']:,} masks matched; same count on "
        f"{100 * record['same_count']:.1f} % of {record['images']} images"
    )


def throughput(record: Record) -> str:
    """Images per second, and how close to the limit."""
    limit = record["limit"]
    return (
        f"**{record['images_per_second']:.1f} images/s** (limit {limit['images_per_second']:.0f}); encoder at "
        f"{100 * limit['encoder_share']:.0f} % of the matrix rate"
        + (f"; {record['speedup']:.1f}x segment-anything-fast's recipe" if record["speedup"] else "")
    )


def size(record: Record) -> str:
    """Bytes per mask in both forms."""
    return (
        f"**{100 * record['share_of_json']:.0f} %**: {record['parquet_bytes_per_mask']:.0f} of "
        f"{record['json_bytes_per_mask']:.0f} bytes, {record['masks']:,} masks"
    )


GENERATOR = "tests.benchmarks.generator --images {data}/coco128/images"
VIT_B = f"{GENERATOR} --model vit_b --random-seed 0 --limit 1 --longest-side 1800"
VIT_N = f"{GENERATOR} --model vit_n --recipe draft --released"
TARGETS = (
    Target(
        "generator_vit_b_reference",
        "CPU fp32, ViT-B, 32x32 grid, one window",
        "≥ 8x fewer CPU seconds than the released generator; peak ≤ 2 GB",
        f"{VIT_B} --released",
        15,
        speed,
        tiles=False,
    ),
    Target(
        "generator_vit_b_reference_amx",
        "the same one window on an Intel with AMX",
        "≥ 8x",
        f"{VIT_B} --released",
        15,
        speed,
        tiles=True,
    ),
    Target(
        "generator_vit_n",
        "CPU fp32, `vit_n`, 32x32 grid, one window",
        "≥ 10x against the released algorithm with the same model",
        VIT_N,
        40,
        speed,
        tiles=False,
    ),
    Target(
        "generator_vit_n_amx",
        "the same with `vit_n` on an Intel with AMX",
        "≥ 10x",
        VIT_N,
        40,
        speed,
        tiles=True,
    ),
    Target(
        "generator_vit_b_sa1b",
        "CPU fp32, ViT-B, `sa1b` recipe, 21 windows",
        "≥ 4x",
        f"{VIT_B} --recipe sa1b --released",
        60,
        speed,
        tiles=False,
    ),
    Target(
        "generator_vit_b_sa1b_amx",
        "the same 21 windows on an Intel with AMX",
        "≥ 4x",
        f"{VIT_B} --recipe sa1b --released",
        60,
        speed,
        tiles=True,
    ),
    Target(
        "generator_vit_n",
        "agreement in fp32 with real masks, `vit_n` on coco128",
        "≥ 99.9 % of masks at IoU ≥ 0.999, same count on ≥ 99 % of images",
        VIT_N,
        40,
        agreement,
        tiles=False,
    ),
    Target(
        "generator_vit_n_amx",
        "the same agreement on an Intel with AMX, whose products are taken apart",
        "≥ 99.9 %, ≥ 99 %",
        VIT_N,
        40,
        agreement,
        tiles=True,
    ),
    Target(
        "generator_vit_h_sa1b_gpu",
        "one H200-class GPU, ViT-H, `sa1b` recipe",
        "≥ 4 images/s (limit ~6); encoder ≥ 60 % of the measured bf16 matrix rate",
        f"{GENERATOR} --model vit_h --random-seed 0 --limit 16 --longest-side 1800 --recipe sa1b --device cuda",
        10,
        throughput,
    ),
    Target(
        "generator_vit_h_reference_gpu",
        "one H200-class GPU, ViT-H, 32x32 grid, one window",
        "≥ 40 images/s (limit ~110); beats segment-anything-fast's recipe run beside it",
        f"{GENERATOR} --model vit_h --random-seed 0 --device cuda --released-fast",
        20,
        throughput,
    ),
    Target(
        "bytes_per_mask",
        "bytes per mask in Parquet",
        "≤ 60 % of the same masks as SA-1B JSON",
        "tests.benchmarks.bytes_per_mask --images {data}/coco128/images",
        5,
        size,
    ),
)
DETERMINISM = Target(
    "determinism",
    "masks that change with path, batch size, threads, precision and device",
    "",
    "tests.benchmarks.determinism --images {data}/coco128/images",
    60,
    lambda record: f"{record['images']} images",
)


@dataclass(frozen=True, slots=True)
class Options:
    """Measures everything that the generator is held to, one command after the other."""

    data: Path
    """Folder that holds coco128/images."""
    only: tuple[str, ...] = ()
    """Names of records; all by default."""
    threads: int = 2
    """Threads of each side."""
    dry_run: bool = False
    """Only say which commands would run."""


def commands(options: Options) -> dict[str, list[str]]:
    """Command line by name of record, in order. Raises ValueError for an unknown name."""
    known = {target.name: target for target in (*TARGETS, DETERMINISM)}
    if unknown := set(options.only) - set(known):
        raise ValueError(f"no record is called {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    chosen = [target for name, target in known.items() if name in options.only or not options.only]
    return {target.name: command_line(target, options) for target in chosen if runs_here(target)}


def command_line(target: Target, options: Options) -> list[str]:
    """The arguments of a Python that measures the target and writes its record."""
    line = shlex.split(target.command.format(data=shlex.quote(str(options.data))))
    threads = ["--threads", str(options.threads)] if line[0] == "tests.benchmarks.generator" else []
    return ["-m", *line, *threads, "--json", str(target.path)]


def runs_here(target: Target) -> bool:
    return (not target.needs_gpu or torch.cuda.is_available()) and target.tiles in (None, has_tiles())


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        chosen = commands(options)
    minutes = {target.name: target.minutes for target in (*TARGETS, DETERMINISM)}
    for name, line in chosen.items():
        print(f"\n{name}, about {minutes[name]} CPU minutes:\n  python {shlex.join(line)}", flush=True)
        if not options.dry_run:
            start = time.monotonic()
            subprocess.run([sys.executable, *line], check=True)
            print(f"took {(time.monotonic() - start) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
