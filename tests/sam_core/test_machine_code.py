"""Machine code where its cache can be kept, and where it cannot."""

from typing import Any

import pytest
from numba.core.dispatcher import Dispatcher

from sam_core.machine_code import cached


def test_without_a_place_for_a_cache_it_is_made_anew_and_said() -> None:
    written: dict[str, Any] = {}
    exec(compile("def double(x):\n    return 2 * x\n", "/nowhere/double.py", "exec"), written)  # no folder to write to
    with pytest.warns(UserWarning, match="name a folder for it by NUMBA_CACHE_DIR"):
        double = cached()(written["double"])
    assert isinstance(double, Dispatcher)
    assert double(21) == 42
