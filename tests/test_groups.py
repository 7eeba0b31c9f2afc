"""What tests share is there, and made once: side by side, all tests of a file run in one process, in any order."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_the_file_is_part_of_what_is_handed_out(request: pytest.FixtureRequest) -> None:
    """Not so with pytest 9.2 and pytest-xdist 3.8, which then said nothing and ran everything anywhere."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("tests run one after the other")
    assert request.node.nodeid.endswith(f"@{request.node.path}")


def test_files_may_be_named_in_any_order() -> None:
    """Fixtures of a folder were not found in the file after one that lies beside that folder."""
    folder = Path(__file__).parent / "sam_core"
    files = [folder / name for name in ("masks/test_boxes.py", "test_ahead.py", "masks/test_stability.py")]
    command = [sys.executable, "-m", "pytest", "--setup-plan", "-p", "no:cacheprovider", *map(str, files)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_files_that_take_long_are_begun_first(request: pytest.FixtureRequest) -> None:
    items = request.session.items
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    groups = [next(item.iter_markers("xdist_group")).args[0] for item in items]
    ranks = [0 if group == "ray" else 1 if item.path in slow else 2 for item, group in zip(items, groups, strict=True)]
    assert ranks == sorted(ranks)
