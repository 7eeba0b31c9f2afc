"""Asks pip-audit whether a pinned dependency has a known hole; `make check` runs it.

Without a network, without pip-audit, or with an index that has no such list, it says that it was skipped and succeeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
SECONDS = 120
_COMMAND = ("-m", "pip_audit", "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off")


def main() -> int:
    """Exit status 1 when there are holes, else 0."""
    try:
        command = [sys.executable, *_COMMAND, "--requirement", str(CONSTRAINTS)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return skipped(f"no answer in {SECONDS} s")
    return verdict(done.stdout, done.stderr)


def verdict(out: str, err: str) -> int:
    """What pip-audit found, printed; 1 when there are holes."""
    try:
        dependencies = json.loads(out)["dependencies"]
    except (ValueError, KeyError):
        return skipped((err.strip().splitlines() or ["pip-audit said nothing"])[-1][:200])
    unknown = [entry["name"] for entry in dependencies if "skip_reason" in entry]
    if len(unknown) == len(dependencies):
        return skipped(f"the index knows of none of {len(unknown)} packages whether they have holes")
    holes = [(entry["name"], entry["version"], hole["id"]) for entry in dependencies for hole in entry.get("vulns", ())]
    for name, version, hole in holes:
        print(f"audit: {name} {version} has {hole}")
    print(f"audit: {len(dependencies) - len(unknown)} packages looked up, {len(unknown)} unknown, {len(holes)} holes")
    return 1 if holes else 0


def skipped(reason: str) -> int:
    """Say so."""
    print(f"audit: SKIPPED, nothing was checked ({reason})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
