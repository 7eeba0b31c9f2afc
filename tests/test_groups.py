"""Side by side, all tests of a file run in one process: a fixture of a file, or Ray's cluster, is made once."""

import pytest


def test_the_file_is_part_of_what_is_handed_out(request: pytest.FixtureRequest) -> None:
    """Not so with pytest 9.2 and pytest-xdist 3.8, which then said nothing and ran everything anywhere."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("tests run one after the other")
    assert request.node.nodeid.endswith(f"@{request.node.path}")
