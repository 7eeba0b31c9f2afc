"""Which licences are allowed: the rule that leaves images out of runs and exports."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence


def require_licences(stated: Iterable[str | None], patterns: Sequence[str]) -> list[str]:
    """Those of the licences that a data set states that match one of the patterns; an unstated one never does.

    In a pattern * stands for anything and ? for one character; case does not count. Raises ValueError, with what is
    stated, when there is none.
    """
    known = sorted({licence for licence in stated if licence})
    wanted = [pattern.casefold() for pattern in patterns]
    allowed = [name for name in known if any(fnmatch.fnmatchcase(name.casefold(), pattern) for pattern in wanted)]
    if not allowed:
        raise ValueError(f"no image has a licence like {', '.join(patterns)}; stated are: {', '.join(known) or 'none'}")
    return allowed
