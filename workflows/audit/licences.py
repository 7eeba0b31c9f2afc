"""Under which licences the images are, and which of them a rule allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workflows.audit.subject import Subject
from workflows.licences import allowed_licences

UNKNOWN = "none stated"


@dataclass(frozen=True, slots=True)
class Licence:
    """Images and masks under one licence; `allowed` is None where nobody asked."""

    name: str
    images: int
    masks: int
    allowed: bool | None


def licences(subject: Subject, patterns: Sequence[str]) -> list[Licence]:
    """Every licence of the images that were worked on, allowed or not, the most frequent first."""
    found = subject.rows(
        f"SELECT coalesce(nullif(licence, ''), '{UNKNOWN}') AS name, count(*) AS images,"
        " sum(n_masks)::BIGINT AS masks FROM audit_all_images GROUP BY name ORDER BY images DESC, name"
    )
    fitting = allowed_licences((str(row["name"]) for row in found if row["name"] != UNKNOWN), patterns)
    return [Licence(**row, allowed=row["name"] in fitting if patterns else None) for row in found]  # type: ignore[arg-type]
