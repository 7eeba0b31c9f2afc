"""Prompt templates: sentences in which {} is the place of a phrase, such as "a photo of {}."."""

from collections.abc import Sequence

PLACE = "{}"
PLAIN = (PLACE,)
"""The phrase as it is."""


def require_templates(templates: Sequence[str]) -> None:
    """Raise ValueError unless there are templates, each with one place for the phrase."""
    if not templates or any(template.count(PLACE) != 1 for template in templates):
        shown = ", ".join(map(repr, templates)) or "none"
        raise ValueError(f"a template is a sentence with {PLACE} once, such as 'a photo of {PLACE}.', not {shown}")
