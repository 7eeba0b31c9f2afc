"""How the loops of this package become machine code that runs without the GIL.

Numba caches an entry with all it calls, and looks only at the entry's own file for changes; but entries call loops of
other files. Here every file of loops counts, so that no tree that was updated goes on with old ones.
"""

import functools
import hashlib
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

_F = TypeVar("_F", bound=Callable[..., Any])
_SAYS_SO = (b"numba", b"machine_code", b"NamedTuple")
_NO_PLACE = (
    "machine code cannot be kept: neither the folder of this package nor the user's cache can be written, so each "
    "process compiles for half a minute; name a folder for it by NUMBA_CACHE_DIR"
)


@functools.cache
def loops_of(package: Path) -> str:
    """The digest of all files below `package` that hold loops, or tuples that loops are given, whose fields they know
    by their places: changed loops have another one."""
    files = (path for path in sorted(package.rglob("*.py")) if path.is_file())  # an editor's lock is a link to nothing
    texts = [text for text in map(Path.read_bytes, files) if any(word in text for word in _SAYS_SO)]
    return hashlib.sha256(b"".join(texts)).hexdigest()


class _Cache(FunctionCache):  # type: ignore[misc, unused-ignore]
    """Good for the loops it was made of. A full disk, or a file of another user, costs the time of compiling again,
    and no image its masks."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # In the name, not in the stamp: an index is written before its code, and old code would be taken for what it
        # names by whoever comes between, or where the new did not fit on the disk.
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=f"{self._impl.filename_base}.{loops_of(Path(__file__).parent)[:12]}",
            source_stamp=self._impl.locator.get_source_stamp(),
        )

    def load_overload(self, *about: Any) -> Any:
        with suppress(OSError):
            return super().load_overload(*about)
        return None

    def save_overload(self, *about: Any) -> None:
        with suppress(OSError):
            super().save_overload(*about)


def cached(**options: Any) -> Callable[[_F], _F]:
    """Machine code with all it calls, made on first use and cached on disk: beside its file, else in the user's cache.

    Where neither can be written, as for a user without a home, each process makes its own, and says so once.
    """

    def compiled(function: _F) -> _F:
        jit = numba.njit(nogil=True, **options)(function)
        try:
            jit._cache = _Cache(function)
        except RuntimeError:  # what numba raises where it finds no place for a cache
            warnings.warn(_NO_PLACE, stacklevel=1)
        return cast(_F, jit)

    return compiled


def inner(function: _F) -> _F:
    """Machine code, for use by other compiled functions of the same file only; that saves half of the compilation."""
    jit = numba.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    return cast(_F, jit(function))


entry = cached(error_model="numpy")
"""As Python computes, but for divisions by zero."""
reordered = cached(error_model="numpy", fastmath={"reassoc", "nsz", "contract", "arcp"})
"""Sums in any order; NaN and infinity stay what they are."""
