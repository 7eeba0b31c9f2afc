"""Where the app is opened."""

from __future__ import annotations

from urllib.parse import parse_qs

from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.serve import address_of


def test_a_token_of_any_characters_can_be_opened(config: AnnotateConfig) -> None:
    token = "a+b/c=%2F&d#e"
    _, _, fragment = address_of(config, 80, token).partition("#")
    assert parse_qs(fragment) == {"token": [token]}
