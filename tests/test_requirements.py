"""Which versions of other packages are taken: those that the tests were run with, and what lies between."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def pins(path: Path) -> dict[str, str]:
    """Versions by package, in lower case."""
    lines = [line for line in path.read_text().splitlines() if "==" in line and not line.startswith("#")]
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines)}


def users_requirements() -> list[Requirement]:
    """What users install, with any of the extras that are for them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [extra for name, extra in project["optional-dependencies"].items() if name not in ("dev", "gpu")]
    return [Requirement(line) for line in sum(extras, project["dependencies"])]


def test_bounds_are_the_oldest_versions_that_were_tested() -> None:
    """None were stated: with Ray 2.51 no mask was made, with DuckDB 1.5.0 no table could be asked."""
    oldest = pins(ROOT / "tests" / "oldest.txt")
    stated = {each.name.lower(): str(each.specifier) for each in users_requirements()}
    assert stated.keys() == oldest.keys()
    for name, version in oldest.items():
        bound = stated[name].removeprefix(">=")
        assert bound == version or version.startswith(f"{bound}."), (name, stated[name], version)


def test_what_make_installs_is_within_bounds() -> None:
    newest = pins(ROOT / "constraints.txt")
    assert [each for each in users_requirements() if not each.specifier.contains(newest[each.name.lower()])] == []
