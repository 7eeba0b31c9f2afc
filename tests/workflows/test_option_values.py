"""Options that must be above 0: which are refused, and in what words."""

from types import SimpleNamespace

import pytest

from workflows.cli import parse
from workflows.option_values import require_positive


@pytest.mark.parametrize("value", [0, -1, 0.0, float("nan")])
def test_what_is_not_above_0_is_refused_by_its_name(value: float) -> None:
    config = SimpleNamespace(workers=None, threads=2, max_pixels=value)
    require_positive(config, "workers", "threads")
    with pytest.raises(ValueError, match=rf"^--max-pixels is {value}; it must be positive$"):
        require_positive(config, "workers", "threads", "max_pixels")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--round -1", "--round is -1; it must be between 0 and 2147483647"),
        ("--round 2147483648", "--round is 2147483648; it must be between 0 and 2147483647"),
        ("--image-timeout inf", "--image-timeout is inf; a year, 31536000, is enough"),
        ("--image-timeout 1e300", r"--image-timeout is 1e\+300; a year, 31536000, is enough"),
        ("--licences", "--licences names nothing; name its values behind it, or leave it out"),
    ],
)
def test_what_would_cost_every_image_its_masks_or_allow_every_licence(options: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(["generate", "photos", "data", *options.split()])


def test_a_training_of_a_round_that_no_table_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="--round is -1; it must be between"):
        parse(["train", "scenes", "--round", "-1"])


@pytest.mark.parametrize("command", ["train scenes", "audit data", "evaluate edges --data photos"])
@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_no_generator_takes_is_refused(command: str, seed: int) -> None:
    with pytest.raises(ValueError, match=rf"--seed is {seed}; it must be between 0 and 9223372036854775807"):
        parse([*command.split(), "--seed", str(seed)])
