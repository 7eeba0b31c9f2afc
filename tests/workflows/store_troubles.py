"""What a store over HTTP can do to its users, as faults for the proxy, and how each must end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.workflows.fault_proxy import ALWAYS, Fault
from workflows.patience import Patience

QUICK_PATIENCE = Patience(
    connect_seconds=0.3,
    read_seconds=20.0,
    attempts=4,
    longest_pause_seconds=0.01,
    settle_seconds=0.0,
    slowest_bytes_per_second=1e6,
)
"""Pauses of hundredths of a second where people wait for minutes. A busy machine may answer late all the same."""
HASTY_PATIENCE = replace(QUICK_PATIENCE, read_seconds=1.0)
"""The same where nothing is to come, which is waited for."""
QUICK_VARIABLE = "connect_seconds=0.3 read_seconds=2 attempts=4 longest_pause_seconds=0.05 slowest_bytes_per_second=1e6"
"""The same for whole commands, in which processes start and answers take longer."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault by name. `line` is what the message says when the fault does not go away.

    `passes`: a later attempt succeeds, so that the fault, `times` times, goes unnoticed. `silent`: it shows by waiting
    alone.
    """

    name: str
    fault: Fault
    line: str
    passes: bool = True
    silent: bool = False

    @property
    def patience(self) -> Patience:
        """What a test of this trouble has time for."""
        return HASTY_PATIENCE if self.silent else QUICK_PATIENCE

    def faults(self, times: int = ALWAYS, *, path: str = "") -> list[Fault]:
        """A fresh fault for a proxy."""
        return [replace(self.fault, times=times, path=path or self.fault.path)]


TROUBLES = (
    Trouble("503 SlowDown", Fault("refuse"), "SlowDown"),
    Trouble("500 InternalError", Fault("refuse", 500, "InternalError"), "InternalError"),
    Trouble("429 TooManyRequests", Fault("refuse", 429, "TooManyRequestsException"), "TooManyRequests"),
    Trouble("read timeout: accepts, never answers", Fault("hang"), "ReadTimeoutError", silent=True),
    Trouble("reset within the request", Fault("reset_request"), "ConnectionClosedError"),
    Trouble("carried out, answer lost", Fault("lose_answer"), "ConnectionClosedError"),
    Trouble("reset within the body", Fault("reset_body", method="GET"), "ResponseStreamingError"),
    Trouble("truncated body", Fault("truncate", method="GET"), "ResponseStreamingError"),
    Trouble("body trickles in", Fault("trickle", method="GET"), "ResponseStreamingError", silent=True),
    Trouble(
        "409 conditional write under way", Fault("refuse", 409, "ConditionalRequestConflict", "PUT"), "Conditional"
    ),
    Trouble(
        "expired credential", Fault("refuse", 400, "ExpiredToken"), "ExpiredToken .*renew the credentials", passes=False
    ),
    Trouble("access denied", Fault("refuse", 403, "AccessDenied"), "AccessDenied", passes=False),
    Trouble("no such bucket", Fault("refuse", 404, "NoSuchBucket"), "no such bucket", passes=False),
)
