"""Where the app is opened."""

from __future__ import annotations

import socket
from dataclasses import replace
from urllib.parse import parse_qs

import pytest

from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.serve import _token, addresses_of


def test_a_token_of_any_characters_can_be_opened(config: AnnotateConfig) -> None:
    token = "a+b/c=%2F&d#e"
    (address,) = addresses_of(config, 80, token)
    _, _, fragment = address.partition("#")
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


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("fe80::1", ["[fe80::1]"]),
        ("0.0.0.0", [socket.gethostname(), "localhost"]),
        ("::", [socket.gethostname(), "localhost"]),
    ],
)
def test_an_address_names_a_host_that_browsers_open(config: AnnotateConfig, host: str, names: list[str]) -> None:
    addresses = addresses_of(replace(config, host=host), 81, None)
    assert addresses == [f"http://{name}:81/" for name in names]
