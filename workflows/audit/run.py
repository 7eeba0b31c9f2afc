"""The audit: everything that is asked of a data set and its references, in order, and the page that shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np

from workflows.audit import counts, quality
from workflows.audit.commands import AuditConfig
from workflows.audit.examine import examine
from workflows.audit.examples import examples
from workflows.audit.figures import Findings
from workflows.audit.licences import licences
from workflows.audit.page import Audit, render
from workflows.audit.pictures import look
from workflows.audit.places import geography
from workflows.audit.reference import open_coco
from workflows.audit.subject import Subject, open_data_set
from workflows.storage import write_file

MOST_REFERENCES = 7


def audit_command(config: AuditConfig) -> int:
    """The subcommand: writes the page, and the numbers where wanted. Raises ValueError or OSError (one line)."""
    found = audit(config)
    write_file(config.out, render(found).encode("utf-8"))
    print(config.out)
    if config.json:
        write_file(config.json, (json.dumps(_numbers(found), indent=1) + "\n").encode("utf-8"))
        print(config.json)
    return 0


def audit(config: AuditConfig) -> Audit:
    """Look at a data set and its references.

    Raises:
        ValueError: one line: no data set, no such run, no masks, no allowed licence, too many references.
    """
    if len(config.against) > MOST_REFERENCES:
        raise ValueError(f"--against names {len(config.against)} data sets; {MOST_REFERENCES} can be told apart")
    subject = open_subject(config.dataset, config.licences)
    subjects = [subject, *(open_subject(reference) for reference in config.against)]
    per_image, counted = counts.masks_per_image(subjects)
    looked = look(subject, images=config.pictures, seed=config.seed)
    return Audit(
        config=config,
        made_at=datetime.now(UTC),
        found=[_findings(one, own, config) for one, own in zip(subjects, counted, strict=True)],
        per_image=per_image,
        licences=licences(subject, config.licences),
        geography=geography(subject, looked.positions),
        looked=looked,
        examples=examples(subject, seed=config.seed) if config.pictures else (),
        quality=quality.quality(subject, target=config.target, target_iou=config.target_iou),
        protocol=quality.command(subject),
    )


def open_subject(text: str, licences: Sequence[str] = ()) -> Subject:
    """A data set of ours or a COCO JSON, by its ending. Raises ValueError or OSError (one line)."""
    return open_coco(text, licences=licences) if text.endswith(".json") else open_data_set(text, licences=licences)


def _findings(subject: Subject, per_image: counts.Counted, config: AuditConfig) -> Findings:
    return Findings(
        name=subject.label,
        totals=counts.totals(subject),
        buckets=counts.buckets(subject),
        per_image=per_image,
        sizes=counts.relative_sizes(subject),
        rings=counts.rings(subject),
        centres=counts.centres(subject),
        examined=examine(subject, images=config.images, seed=config.seed, duplicate_iou=config.duplicate_iou),
    )


def _numbers(found: Audit) -> dict[str, object]:
    """The findings without pictures, as JSON can hold them."""
    values = asdict(found)
    values["looked"] = {name: values["looked"][name] for name in ("images", "unreadable", "alike")}
    del values["per_image"], values["examples"]
    return _plain(values)  # type: ignore[return-value]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.isoformat() if isinstance(value, datetime) else value
