"""Values that an annotation server cannot work with."""

from __future__ import annotations

import socket
from dataclasses import replace
from math import inf

import pytest

from workflows.annotate.commands import AnnotateConfig, EmbedConfig
from workflows.annotate.serve import annotate


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("lease_seconds", inf, "--lease-seconds is inf; a year"),
        ("lease_seconds", 1e12, "--lease-seconds is 1e\\+12; a year"),
        ("lease_seconds", 0, "--lease-seconds is 0; it must be positive"),
        ("round", -1, "--round is -1; it must be between"),
        ("round", 2**31, "--round is 2147483648; it must be between"),
        ("token", "two words", "--token or SAM_ENGINE_TOKEN has a space"),
        ("token", "\u732b", "--token or SAM_ENGINE_TOKEN has a space or other characters"),
        ("max_pixels", 0, "--max-pixels is 0; it must be positive"),
        ("run", "nightly", "--run names masks to start from; assisted-manual has none"),
        ("port", 65536, "--port is 65536; it must be between"),
    ],
)
def test_refusals(name: str, value: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        AnnotateConfig(dataset="data", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["workers", "threads", "max_pixels"])
def test_embedding_takes_positive_numbers_alone(name: str) -> None:
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is -1; it must be positive"):
        EmbedConfig(dataset="data", **{name: -1})  # type: ignore[arg-type]


def test_a_port_that_is_taken_is_said_once_with_what_to_do(config: AnnotateConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1 port {port}: Address already in use; end what listens") as told:
            annotate(replace(config, port=port, browser_decoder=False))
    assert str(told.value).count("ddress already in use") == 1
