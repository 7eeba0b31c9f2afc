"""What `--help` of every subcommand says."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from dataclasses import is_dataclass
from textwrap import dedent

import pytest

from sam_core.recipes import Recipe
from workflows.cli import SUBCOMMANDS, Subcommand, parse
from workflows.evaluate.commands import TaskConfig


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\nfrom workflows.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'ray', 'duckdb', 'boto3', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("known", SUBCOMMANDS, ids=lambda known: known.name)
def test_every_subcommand_has_help_and_a_runner(known: Subcommand, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([known.name, "--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert "(default: )" not in told
    shown = " ".join(re.findall(r"[\w.-]+", told))
    assert " ".join(re.findall(r"[\w.-]+", (known.config.__doc__ or "").split(":")[0])) in shown
    (argument,) = inspect.signature(known.load()).parameters.values()
    assert argument.annotation == known.config.__name__


@pytest.mark.parametrize("config", [*(known.config for known in SUBCOMMANDS), *TaskConfig.__subclasses__(), Recipe])
def test_texts_of_options_are_single_lines(config: type) -> None:
    """tyro breaks its lines where the source does, in the midst of sentences."""
    classes = [each for each in config.__mro__ if is_dataclass(each)]
    bodies = [ast.parse(dedent(inspect.getsource(each))).body[0] for each in classes]
    texts = [inner.value.value for body in bodies for inner in body.body[1:] if _is_text(inner)]  # type: ignore[attr-defined]
    assert not [text for text in texts if "\n" in text]


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("generate", "SOURCE DATASET"),
        ("sql", "DATASET SQL [--format"),
        ("export", "DATASET OUT"),
        ("plan", "SOURCE"),
        ("train", "SOURCE [SOURCE ...]"),
        ("models", "[NAME]"),
        ("rounds", "[FILE]"),
        ("segment", "IMAGE"),
    ],
)
def test_help_calls_arguments_by_the_names_that_the_documents_use(
    capsys: pytest.CaptureFixture[str], command: str, usage: str
) -> None:
    """`plan --actual` speaks of SOURCE, where the help had an argument STR, and `import` two of them."""
    with pytest.raises(SystemExit):
        parse([command, "--help"])
    line = capsys.readouterr().out.splitlines()[0]
    assert usage in line
    assert " STR" not in line.partition("[--")[0]
