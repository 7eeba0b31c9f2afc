"""What values of options must be, and what help calls arguments without a flag; imported by every command, so it
imports nothing that takes time."""

from typing import Annotated

from tyro.conf import Positional, arg


def _shown(default: str) -> str:
    """What help says of a default: nothing where none of several values is meant."""
    return f"(default: {default})" if default else ""


Several = Annotated[tuple[str, ...], arg(help_behavior_hint=_shown)]
Source = Positional[Annotated[str, arg(metavar="SOURCE")]]
Dataset = Positional[Annotated[str, arg(metavar="DATASET")]]
Out = Positional[Annotated[str, arg(metavar="OUT")]]

SECONDS_OF_A_YEAR = 31_536_000
HIGHEST_ROUND = 2**31 - 1
HIGHEST_SEED = 2**63 - 1


def require_positive(config: object, *names: str) -> None:
    """Raises ValueError, one line, for the first of these fields that is given and not above 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be positive")


def require_at_most_a_year(config: object, name: str) -> None:
    """Raises ValueError, one line, when a field has more seconds: no clock counts so far."""
    value = getattr(config, name)
    if value > SECONDS_OF_A_YEAR:
        raise ValueError(f"--{name.replace('_', '-')} is {value:g}; a year, {SECONDS_OF_A_YEAR}, is enough")


def require_round(number: int | None) -> None:
    """Raises ValueError, one line, when a round is given that no table can hold."""
    if number is not None and not 0 <= number <= HIGHEST_ROUND:
        raise ValueError(f"--round is {number}; it must be between 0 and {HIGHEST_ROUND}")


def require_seed(number: int) -> None:
    """Raises ValueError, one line, for a seed that no generator of random numbers takes."""
    if not 0 <= number <= HIGHEST_SEED:
        raise ValueError(f"--seed is {number}; it must be between 0 and {HIGHEST_SEED}")
