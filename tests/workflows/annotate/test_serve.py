"""Where the app is opened."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs

import pytest

from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.serve import _token, address_of


def test_a_token_of_any_characters_can_be_opened(config: AnnotateConfig) -> None:
    token = "a+b/c=%2F&d#e"
    _, _, fragment = address_of(config, 80, token).partition("#")
    assert parse_qs(fragment) == {"token": [token]}


def test_a_token_is_given_or_drawn_where_others_can_come(
    config: AnnotateConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that a command names is in the list of processes, where all users of a shared machine read it."""
    assert _token(config) is None
    drawn = {_token(replace(config, host=host)) for host in ("0.0.0.0", "::", "127.0.0.2")}
    assert all(len(token or "") >= 32 for token in drawn)
    assert len(drawn) == 3
    monkeypatch.setenv("SAM_ENGINE_TOKEN", "secret")
    assert _token(config) == _token(replace(config, host="0.0.0.0")) == "secret"
    assert _token(replace(config, token="other")) == "other"
    monkeypatch.setenv("SAM_ENGINE_TOKEN", "two words")
    with pytest.raises(ValueError, match="SAM_ENGINE_TOKEN has a space"):
        _token(config)
