"""Under which licences the images are, and which of them a rule allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workflows.audit.subject import Subject, allowed_sql

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
    allowed = f"bool_and({allowed_sql(patterns)})" if patterns else "NULL"
    found = subject.rows(
        f"SELECT coalesce(nullif(licence, ''), '{UNKNOWN}') AS name, count(*) AS images,"
        f" sum(n_masks)::BIGINT AS masks, {allowed} AS allowed"
        " FROM audit_all_images GROUP BY name ORDER BY images DESC, name"
    )
    return [Licence(**row) for row in found]  # type: ignore[arg-type]
