"""Wrong command lines of every kind, as tyro meets them, in one line each."""

import os
import sys
from io import BytesIO, TextIOWrapper

import pytest

from workflows.cli import parse
from workflows.usage import unwrapped


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("generate a b --threads x", "--threads: 'x' is not INT; see `sam-engine generate --help`"),
        ("train a --save-every x", "--save-every: 'x' is not INT; see `sam-engine train --help`"),
        ("generate a b --nms-iou q", "--nms-iou: 'q' is not FLOAT; see `sam-engine generate --help`"),
        ("generate a b --thread 3", "unknown: --thread, 3; did you mean --threads?; see `sam-engine generate --help`"),
        ("generate a b --thread 3 --worker 2", "unknown: --thread, 3, --worker, 2; did you mean --threads, --workers?"),
        ("generate a b --licence x", "unknown: --licence, x; did you mean --licences?; see `sam-engine generate"),
        ("evaluate single-point --data x --images-per-set 3", "unknown: --images-per-set, 3; see `sam-engine evaluate"),
        ("rounds run e.yaml --thread 3", "unknown: --thread, 3; see `sam-engine rounds --help`"),
        ("train a --workers 0", "--workers is 0; it must be positive; see `sam-engine train --help`"),
        ("generate a b --min-stability-score 1.5", "recipe: min_stability_score is 1.5; it must be between 0 and 1"),
        ("generate a b --device", "missing value for argument '--device'"),
        ("rounds walk x", "invalid choice 'walk' for argument 'action'. Expected one of ('run',"),
        ("sql d", "missing: One SQL statement of DuckDB. It can read this data set and nothing else; see"),
        ("generate", "missing: Folder, glob, s3://bucket/prefix, Parquet of URIs (column `uri`)"),
        ("generat a", "no command is called 'generat'; did you mean 'generate'?"),
        ("--nonsense", "unknown: --nonsense; see `sam-engine --help`"),
        ("", "expected one of {generate, "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_is_wrong_and_where_to_look(
    line: str, said: str, encoding: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(BytesIO(), encoding))  # which decides how the box is drawn
    with pytest.raises(ValueError) as refused:
        parse(line.split())
    message = str(refused.value)
    assert message.startswith(said)
    assert "\n" not in message
    assert capsys.readouterr().err == ""


def test_a_long_path_is_not_broken_in_two() -> None:
    path = "/" + "/".join(["somewhere"] * 20)
    with pytest.raises(ValueError, match=path):
        parse(["generate", "a", "b", "--workers", path])


def test_the_width_of_the_screen_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "72"):
        monkeypatch.delenv("COLUMNS", raising=False)
        if before:
            monkeypatch.setenv("COLUMNS", before)
        with unwrapped():
            assert os.environ["COLUMNS"] == "10000"
        assert os.environ.get("COLUMNS") == before
