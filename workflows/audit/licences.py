"""Under which licences the images are, and which of them a rule allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workflows.audit.subject import Subject

UNKNOWN = "none stated"


@dataclass(frozen=True, slots=True)
class Licence:
    """Images and masks under one licence; `allowed` is None where nobody asked."""

    name: str
    images: int
    masks: int
    allowed: bool | None


def licences(subject: Subject, patterns: Sequence[str]) -> list[Licence]:
    """Every licence of the images that were worked on, allowed or not, the most frequent first.

    Images whose copies come under several have a line of their own, which is allowed when each of these is.
    """
    found = subject.rows(
        f"SELECT coalesce(nullif(licence, ''), '{UNKNOWN}') AS name, count(*) AS images,"
        " sum(n_masks)::BIGINT AS masks, bool_and(image_id IN (SELECT image_id FROM audit_images)) AS allowed"
        " FROM audit_all_images GROUP BY name ORDER BY images DESC, name"
    )
    return [Licence(**(row | ({} if patterns else {"allowed": None}))) for row in found]  # type: ignore[arg-type]
