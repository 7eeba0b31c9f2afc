"""The command `sam-engine`: flags to configuration, configuration to function, failures to one line."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from io import StringIO
from pkgutil import resolve_name
from subprocess import Popen
from tempfile import gettempdir
from threading import Timer, current_thread, main_thread
from types import FrameType
from typing import Annotated, Any, Union

import tyro
from tyro.conf import subcommand

from sam_core.presets import did_you_mean
from sam_core.recipes import recipe, recommended_recipe
from workflows.annotate.commands import AnnotateConfig, EmbedConfig
from workflows.audit.commands import AuditConfig
from workflows.commands import (
    AUTO,
    GenerateConfig,
    IngestConfig,
    ModelsConfig,
    PlanConfig,
    ReportConfig,
    SqlConfig,
    StatusConfig,
    TrainCommand,
)
from workflows.crops.commands import CropsConfig
from workflows.evaluate.commands import EvaluateCommand
from workflows.exchange.commands import ExportConfig, ImportConfig, RelateConfig
from workflows.failures import one_line, visible
from workflows.patience import patience_of
from workflows.protect.commands import ProtectConfig
from workflows.redact import redact
from workflows.rounds.commands import RoundsConfig
from workflows.text.commands import SegmentConfig, TagConfig
from workflows.usage import unwrapped, usage_line
from workflows.without_pandas import leave_pandas_out

_ABOUT = "Masks of every image, by a model and people in rounds. `sam-engine COMMAND --help` says what a command takes."
DONE, WRONG_USE, BROKEN, INTERRUPTED, TERMINATED = 0, 2, 70, 130, 143
_STDOUT, _STDERR = 1, 2
_PUT_OFF_SECONDS, _PUT_OFF_TIMES = 0.05, 200
_FORKING = Popen._execute_child.__code__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Subcommand:
    """One word behind `sam-engine`. Its help line is the docstring of its configuration.

    name: the word.
    config: what it can be told.
    runner: `module:function` of what does it, given the configuration; returns the exit status. A name, looked up at
        use, because torch and Ray take seconds that `--help` need not wait for.
    extra: the optional part of this package that it needs.
    """

    name: str
    config: type
    runner: str
    extra: str | None = None

    def load(self) -> Callable[[Any], int]:
        """The runner. Raises ValueError that says how to install a missing extra."""
        try:
            return resolve_name(self.runner)  # type: ignore[no-any-return]
        except ModuleNotFoundError as error:
            if self.extra is None:
                raise
            need = f"{self.name} needs {error.name}: pip install 'sam-data-engine[{self.extra}]'"
            raise ValueError(need) from error


SUBCOMMANDS = (
    Subcommand("generate", GenerateConfig, "workflows.generate:generate"),
    Subcommand("ingest", IngestConfig, "workflows.ingest:ingest_command"),
    Subcommand("sql", SqlConfig, "workflows.sql:sql"),
    Subcommand("report", ReportConfig, "workflows.report:report"),
    Subcommand("train", TrainCommand, "workflows.train.job:train_command"),
    Subcommand("models", ModelsConfig, "workflows.models:models_command"),
    Subcommand("embed", EmbedConfig, "workflows.embed:embed"),
    Subcommand("annotate", AnnotateConfig, "workflows.annotate.serve:annotate", extra="annotate"),
    Subcommand("audit", AuditConfig, "workflows.audit.run:audit_command"),
    Subcommand("evaluate", EvaluateCommand, "workflows.evaluate.job:evaluate_command"),
    Subcommand("status", StatusConfig, "workflows.status:status"),
    Subcommand("plan", PlanConfig, "workflows.capacity:plan"),
    Subcommand("export", ExportConfig, "workflows.exchange.export:export"),
    Subcommand("import", ImportConfig, "workflows.exchange.importing:import_command"),
    Subcommand("relate", RelateConfig, "workflows.relate:relate_command"),
    Subcommand("protect", ProtectConfig, "workflows.protect.protect:protect"),
    Subcommand("rounds", RoundsConfig, "workflows.rounds.run:rounds"),
    Subcommand("segment", SegmentConfig, "workflows.text.segment:segment"),
    Subcommand("tag", TagConfig, "workflows.text.tag:tag_command"),
    Subcommand("crops", CropsConfig, "workflows.crops.job:crops"),
)
NAMES = tuple(known.name for known in SUBCOMMANDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status: 0 done, 1 finished with error rows, 2 wrong usage or unreadable input,
    70 a bug, of which the traceback tells, 130 after Ctrl-C, 143 after SIGTERM.

    With SAM_ENGINE_TRACEBACK set, a failure shows where it came from.
    """
    given = sys.argv[1:] if arguments is None else arguments
    _have_streams()
    _have_a_home()
    came: list[int] = []
    try:
        with _leaving_at_signals(came):
            status = _print_version() if list(given) == ["--version"] else run(parse(given), own=arguments is None)
            sys.stdout.flush()  # here, where a full disk can be told
            return status
    except KeyboardInterrupt:
        return _ended(signal.SIGINT)
    except SystemExit:
        if not came:
            raise
        return _ended(came[0])
    except BrokenPipeError:  # `sam-engine sql ... | head`
        _drop_output()
        return DONE
    except Exception as error:  # Python itself would end with 1, the status of a job that is done but for error rows
        return _ended(came[0]) if came else _failed(error)


def _have_streams() -> None:
    """What a caller has closed (`>&-`) leads nowhere; else the next file that is opened takes its number, and gets what
    processes that begin here print."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or open(_STDOUT, "w", closefd=False)  # noqa: SIM115  # until the process ends
    sys.stderr = sys.stderr or open(_STDERR, "w", closefd=False)  # noqa: SIM115


def _have_a_home() -> None:
    """Libraries ask for it as they are imported, and a container may run under a number that belongs to no user."""
    if os.path.expanduser("~") == "~":  # noqa: PTH111  # pathlib raises
        os.environ["HOME"] = os.sep  # as Docker says then, unless it is told otherwise


@contextmanager
def _leaving_at_signals(came: list[int]) -> Iterator[None]:
    """SIGTERM leaves as an exception does, so that temporary files are removed.

    It and Ctrl-C are noted in `came`: in the midst of DuckDB, tyro or Ray their exception becomes one of these. While a
    module is imported or a process begun they are put off: C code that imports, and hooks around a fork, swallow them,
    and locks that they leave behind stop every thread that imports, or logs, later. Not for ever: the command may
    itself run in a module that somebody imports.
    """
    if current_thread() is not main_thread():
        yield
        return

    again: Timer | None = None

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal again
        came.append(number)
        if len(came) < _PUT_OFF_TIMES and _is_importing_or_forking(frame):
            again = Timer(_PUT_OFF_SECONDS, os.kill, (os.getpid(), number))
            again.start()
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(number)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, leave)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else ignored, as in the background of a script
        before[signal.SIGINT] = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        if again:
            again.cancel()
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _is_importing_or_forking(frame: FrameType | None) -> bool:
    while frame and frame.f_code.co_filename != "<frozen importlib._bootstrap>" and frame.f_code is not _FORKING:
        frame = frame.f_back
    return frame is not None


def _ended(number: int) -> int:
    """Say that a signal ended the command; the exit status."""
    how = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
    print(f"sam-engine: {how}; the same command goes on where this one stopped", file=sys.stderr)
    return INTERRUPTED if number == signal.SIGINT else TERMINATED


def _failed(error: Exception) -> int:
    """Say why a command could not be done, or show where a bug is; the exit status."""
    if isinstance(error, ValueError | OSError):
        return _refused(one_line(error))
    if line := _told_by_files(error):
        return _refused(line)
    if _is_of_the_disk(error):
        return _refused(f"{one_line(error)} (temporary files lie in {gettempdir()}; TMPDIR names another folder)")
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # the latter by torch
        return _refused(
            "this machine has too little memory free; smaller pictures take less (SAM_ENGINE_TRACEBACK=1 shows where)"
        )
    _show_traceback()
    return BROKEN


def _show_traceback() -> None:
    """What goes into a report of a bug: libraries repeat addresses with all that is in them, such as an endpoint."""
    print(redact(traceback.format_exc()), end="", file=sys.stderr)


def _refused(line: str) -> int:
    """Say why a command could not be done; the exit status."""
    if os.environ.get("SAM_ENGINE_TRACEBACK"):
        _show_traceback()
    print(f"sam-engine: {visible(line)}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    return WRONG_USE


def _drop_output() -> None:
    """Send what nobody can take elsewhere, or Python would try once more when it ends, and say so in its own words."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_version() -> int:
    print(f"sam-engine {version('sam-data-engine')}")
    return DONE


def _told_by_files(error: Exception) -> str | None:
    """Why a file of a data set could not be read, where DuckDB tells it."""
    from schemas.catalog import told_by_files  # takes time that `--help` need not wait for

    return told_by_files(error)


def _is_of_the_disk(error: Exception) -> bool:
    """Whether DuckDB found no room, or could not read or write a file: its errors are no OSErrors."""
    from duckdb import OperationalError  # takes time that `--help` need not wait for

    return isinstance(error, OperationalError)


def parse(arguments: Sequence[str]) -> object:
    """The configuration that the arguments say. Raises SystemExit(0) after help, ValueError on a wrong command line."""
    if arguments and not arguments[0].startswith("-") and arguments[0] not in NAMES:
        raise ValueError(f"no command is called {arguments[0]!r}; {did_you_mean(arguments[0], NAMES)}")
    config = _parse(arguments)
    _require_lists(arguments, config)
    if isinstance(config, GenerateConfig):  # again, with the values of the chosen recipe in the place of the default's
        from workflows.models import name_of  # torch takes seconds that `--help` need not wait for

        name = recommended_recipe(name_of(config.model)) if config.recipe == AUTO else config.recipe
        config = _parse(arguments, default=replace(config, recipe=name, thresholds=recipe(name)))
    return config


def _require_lists(arguments: Sequence[str], config: object) -> None:
    """Raises ValueError for an option of several values that is given twice, of which the last alone would count, or
    without any, as by a script whose list is empty: it would count as not given."""
    options = config.task if isinstance(config, EvaluateCommand) else config
    for field in fields(options):  # type: ignore[arg-type]
        flag = f"--{field.name.replace('_', '-')}"
        times = sum(word == flag or word.startswith(f"{flag}=") for word in arguments)
        if times and getattr(options, field.name) == ():
            raise ValueError(f"{flag} names nothing; name its values behind it, or leave it out")
        if times > 1 and isinstance(getattr(options, field.name), tuple):
            raise ValueError(f"{flag} is given {times} times; name all of its values behind one: {flag} A B")


def run(config: object, *, own: bool = False) -> int:
    """Run the subcommand that this is the configuration of; the exit status. own: in a process of the command's own."""
    patience_of()  # what is misspelt is said before the first fault of a store
    if own:
        leave_pandas_out()
    return next(known for known in SUBCOMMANDS if type(config) is known.config).load()(config)


def _parse(arguments: Sequence[str], **default: object) -> object:
    try:
        with redirect_stderr(StringIO()) as said:
            config = _tyro(arguments, **default)
    except SystemExit as end:
        if not end.code:
            raise
    else:
        sys.stderr.write(said.getvalue())
        return config
    with unwrapped(), redirect_stderr(StringIO()) as box, suppress(SystemExit):
        _tyro(arguments, **default)
    command = f"sam-engine {arguments[0]}" if arguments and arguments[0] in NAMES else "sam-engine"
    raise ValueError(usage_line(box.getvalue(), command))


def _tyro(arguments: Sequence[str], **default: object) -> object:
    return tyro.cli(  # type: ignore[call-overload]
        Union[tuple(Annotated[known.config, subcommand(known.name)] for known in SUBCOMMANDS)],  # noqa: UP007
        prog="sam-engine",
        description=_ABOUT,
        args=list(arguments),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        **default,
    )


if __name__ == "__main__":
    sys.exit(main())
