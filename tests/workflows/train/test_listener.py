"""Words of workers: all are heard, unless the command is ended meanwhile."""

from __future__ import annotations

import pickle
from queue import Empty
from types import SimpleNamespace

import pytest

from workflows.train.listener import Listener
from workflows.train.worker import Told

WORDS = 200_000


class Talkative:
    """A queue in which the next word always waits already, though not for ever."""

    def __init__(self, words: int) -> None:
        self.left = words

    def get(self, *, timeout: float) -> bytes:
        if not self.left:
            raise Empty
        self.left -= 1
        return pickle.dumps(Told(advice=f"{self.left} left"))


def _never() -> None:
    raise AssertionError("no worker has failed")


@pytest.mark.parametrize("signal", [SystemExit, KeyboardInterrupt])
def test_who_is_ended_does_not_listen_to_the_end(signal: type[BaseException]) -> None:
    """Workers end with the command, which would wait for their last word."""
    told, heard = Talkative(WORDS), list[str]()
    with pytest.raises(signal), Listener(told, SimpleNamespace(say=heard.append), give_up=_never):
        raise signal
    assert told.left


def test_all_is_heard_before_it_is_said_why_training_stopped() -> None:
    told, heard = Talkative(1_000), list[str]()
    with Listener(told, SimpleNamespace(say=heard.append), give_up=_never) as listener:
        assert listener.failure() is None
    assert len(heard) == 1_000
