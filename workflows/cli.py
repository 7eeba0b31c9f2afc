"""The command `sam-engine`: flags to configuration, configuration to function, failures to one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import tyro
from tyro.conf import subcommand

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
from workflows.failures import one_line
from workflows.protect.commands import ProtectConfig
from workflows.rounds.commands import RoundsConfig
from workflows.text.commands import SegmentConfig, TagConfig

Command = (
    GenerateConfig
    | IngestConfig
    | SqlConfig
    | ReportConfig
    | ModelsConfig
    | TrainCommand
    | EmbedConfig
    | AnnotateConfig
    | AuditConfig
    | EvaluateCommand
    | StatusConfig
    | PlanConfig
    | ExportConfig
    | ImportConfig
    | RelateConfig
    | ProtectConfig
    | RoundsConfig
    | SegmentConfig
    | TagConfig
    | CropsConfig
)
DONE, DONE_WITH_ERRORS, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
_COMMANDS = (
    Annotated[GenerateConfig, subcommand("generate")]
    | Annotated[IngestConfig, subcommand("ingest")]
    | Annotated[SqlConfig, subcommand("sql")]
    | Annotated[ReportConfig, subcommand("report")]
    | Annotated[TrainCommand, subcommand("train")]
    | Annotated[ModelsConfig, subcommand("models")]
    | Annotated[EmbedConfig, subcommand("embed")]
    | Annotated[AnnotateConfig, subcommand("annotate")]
    | Annotated[AuditConfig, subcommand("audit")]
    | Annotated[EvaluateCommand, subcommand("evaluate")]
    | Annotated[StatusConfig, subcommand("status")]
    | Annotated[PlanConfig, subcommand("plan")]
    | Annotated[ExportConfig, subcommand("export")]
    | Annotated[ImportConfig, subcommand("import")]
    | Annotated[RelateConfig, subcommand("relate")]
    | Annotated[ProtectConfig, subcommand("protect")]
    | Annotated[RoundsConfig, subcommand("rounds")]
    | Annotated[SegmentConfig, subcommand("segment")]
    | Annotated[TagConfig, subcommand("tag")]
    | Annotated[CropsConfig, subcommand("crops")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status: 0 done, 1 finished with error rows, 2 wrong usage or unreadable input.

    With SAM_ENGINE_TRACEBACK set, a failure shows where it came from.
    """
    try:
        return run(parse(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        print("sam-engine: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `sam-engine sql ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (ValueError, OSError) as error:
        if os.environ.get("SAM_ENGINE_TRACEBACK"):
            raise
        print(f"sam-engine: {one_line(error)}", file=sys.stderr)
        return WRONG_USE


def parse(arguments: Sequence[str]) -> Command:
    """The configuration that the arguments say. Raises SystemExit as argparse does, ValueError on wrong values."""
    config = _parse(arguments, None)
    if isinstance(config, GenerateConfig):  # again, with the values of the chosen recipe in the place of the default's
        name = recommended_recipe(config.model) if config.recipe == AUTO else config.recipe
        config = _parse(arguments, replace(config, recipe=name, thresholds=recipe(name)))
    return config


def run(config: Command) -> int:
    """Run a subcommand. Imports are here because torch and Ray take seconds that `--help` need not wait for."""
    match config:
        case GenerateConfig():
            from workflows.generate import generate

            return generate(config)
        case IngestConfig():
            from workflows.ingest import ingest_command

            return ingest_command(config)
        case SqlConfig():
            from workflows.sql import sql

            return sql(config)
        case ReportConfig():
            from workflows.report import write_report

            write_report(config.dataset, config.out, run=config.run, images=config.images)
            print(config.out)
            return DONE
        case ModelsConfig():
            from workflows.models import models_command

            return models_command(config)
        case TrainCommand():
            from workflows.train.job import train_command

            return train_command(config)
        case EmbedConfig():
            from workflows.embed import embed

            return embed(config)
        case AnnotateConfig():
            return _annotate(config)
        case AuditConfig():
            from workflows.audit.run import audit_command

            return audit_command(config)
        case EvaluateCommand():
            from workflows.evaluate.job import evaluate_command

            return evaluate_command(config.task)
        case StatusConfig():
            from workflows.status import status

            return status(config)
        case PlanConfig():
            from workflows.capacity import plan

            return plan(config)
        case ExportConfig():
            from workflows.exchange.export import export

            return export(config)
        case ImportConfig():
            from workflows.exchange.importing import import_command

            return import_command(config)
        case RelateConfig():
            from workflows.relate import relate_command

            return relate_command(config)
        case ProtectConfig():
            from workflows.protect.protect import protect

            return protect(config)
        case RoundsConfig():
            from workflows.rounds.run import rounds

            return rounds(config)
        case SegmentConfig():
            from workflows.text.segment import segment

            return segment(config)
        case TagConfig():
            from workflows.text.tag import tag

            return tag(config)
        case CropsConfig():
            from workflows.crops.job import crops

            return crops(config)


def _annotate(config: AnnotateConfig) -> int:
    """The annotation server, whose libraries are an extra."""
    try:
        from workflows.annotate.serve import annotate
    except ModuleNotFoundError as error:
        raise ValueError(f"annotate needs {error.name}: pip install 'sam-data-engine[annotate]'") from error
    return annotate(config)


def _parse(arguments: Sequence[str], default: Command | None) -> Command:
    given = {} if default is None else {"default": default}
    return tyro.cli(  # type: ignore[call-overload, no-any-return]
        _COMMANDS,
        prog="sam-engine",
        description=__doc__,
        args=list(arguments),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        **given,
    )


if __name__ == "__main__":
    sys.exit(main())
