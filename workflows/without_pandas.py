"""pyarrow without pandas, which it imports for its first array wherever it is installed, as Ray Train asks for it:
a third of a second and 33 MB of every command that nothing here needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


def leave_pandas_out() -> None:
    """Let pyarrow look for pandas once and find none. What asks for it later, as `to_pandas` and `to_numpy` do, still
    gets it; but arrays take no pandas objects from then on, so this is for processes that are ours: commands."""
    import pyarrow as pa  # here, as `--help` need not wait for it

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([])  # looks, and remembers
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas(MetaPathFinder):
    @classmethod
    def find_spec(cls, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(name=fullname)
