"""Actors that die, do not start, or fail, on a real cluster of two cores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path
from typing import TextIO

import pytest
import ray
from ray.actor import ActorHandle

from workflows import actor_pool
from workflows.actor_pool import ActorPool
from workflows.failures import WorkerError


class Fragile:
    """Squares numbers; ends its process at the row that says so, the first `times` times."""

    def __init__(self, folder: str, deaths_at_start: int = 0) -> None:
        self._folder = Path(folder)
        if self._count("start") <= deaths_at_start:
            os._exit(1)

    def __call__(self, row: dict[str, int]) -> dict[str, int]:
        if "dies" in row and self._count(f"row-{row['number']}") <= row["dies"]:
            os._exit(1)
        return {"number": row["number"], "square": row["number"] ** 2, "root": 1 // row.get("divisor", 1)}

    def _count(self, what: str) -> int:
        """How often it has been asked for that, this time included."""
        (self._folder / f"{what}-{len(list(self._folder.glob(f'{what}-*')))}").touch()
        return len(list(self._folder.glob(f"{what}-*")))


class Late(Fragile):
    """Starts once there is that file."""

    def __init__(self, folder: str, file: Path) -> None:
        while not file.exists():
            time.sleep(0.01)
        super().__init__(folder)


def starts(folder: Path, *, deaths: int = 0) -> Callable[[], ActorHandle]:
    remote = ray.remote(num_cpus=1)(Fragile)
    return lambda: remote.remote(str(folder), deaths)


def test_every_row_is_answered_once_though_actors_die_and_one_never_finds_room(cluster: str, tmp_path: Path) -> None:
    rows = [{"number": number} | ({"dies": 1} if number in (0, 3) else {}) for number in range(6)]
    answers = list(ActorPool(starts(tmp_path, deaths=1), 3).map(rows))
    assert sorted(answer["square"] for answer in answers) == [0, 1, 4, 9, 16, 25]
    assert len(list(tmp_path.glob("row-*"))) == 4


def test_a_row_that_takes_every_actor_with_it_ends_the_work(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor_pool, "ROW_RETRIES", 1)
    with pytest.raises(WorkerError, match="the work was given up") as caught:
        list(ActorPool(starts(tmp_path), 1).map([{"number": 1, "dies": 9}]))
    assert len(list(tmp_path.glob("row-*"))) == 2
    assert "\n" not in str(caught.value)


def losing_machines() -> Callable[[], list[dict[str, object]]]:
    """A cluster of which each look finds another machine gone."""
    gone = ([{"NodeID": str(name), "Alive": False} for name in range(number)] for number in count())
    return lambda: next(gone)


def test_a_row_whose_actors_go_with_machines_is_tried_more_often(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor_pool, "ROW_RETRIES", 1)
    monkeypatch.setattr(actor_pool, "MACHINE_LOSSES", 2)
    monkeypatch.setattr("workflows.actor_pool.ray.nodes", losing_machines())
    with pytest.raises(WorkerError, match="the work was given up"):
        list(ActorPool(starts(tmp_path), 1).map([{"number": 2, "dies": 9}]))
    assert len(list(tmp_path.glob("row-2-*"))) == 3  # 2 where it takes actors alone


@pytest.mark.parametrize("limit", ["STARTS", "MACHINES"])
def test_actors_that_die_as_they_start_end_the_work(
    limit: str, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, or with one machine after the other, which a model may take down."""
    monkeypatch.setattr(actor_pool, limit, 1)
    if limit == "MACHINES":
        monkeypatch.setattr("workflows.actor_pool.ray.nodes", losing_machines())
    with pytest.raises(WorkerError, match="the work was given up"):
        list(ActorPool(starts(tmp_path, deaths=9), 1).map([{"number": 1}]))
    assert len(list(tmp_path.glob("start-*"))) == 2


def test_actors_that_machines_take_with_them_as_they_start_do_not_count(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as start on one machine; the run had ended with the fourth of them."""
    monkeypatch.setattr(actor_pool, "STARTS", 0)
    monkeypatch.setattr("workflows.actor_pool.ray.nodes", losing_machines())
    assert [answer["number"] for answer in ActorPool(starts(tmp_path, deaths=2), 1).map([{"number": 7}])] == [7]
    assert len(list(tmp_path.glob("start-*"))) == 3


def test_an_exception_ends_the_work_with_its_last_line(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="division"):
        list(ActorPool(starts(tmp_path), 1).map([{"number": 1, "divisor": 0}]))


def test_people_are_told_when_no_actor_starts_for_a_while(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "told"

    def tell(*words: str, **where: TextIO) -> None:
        print(*words, **where)
        told.touch()

    monkeypatch.setattr(actor_pool, "SILENCE", 0.01)
    monkeypatch.setattr(actor_pool, "print", tell, raising=False)
    late = ray.remote(num_cpus=1)(Late)
    assert len(list(ActorPool(lambda: late.remote(str(tmp_path), told), 1).map([{"number": 2}]))) == 1
    assert (
        "no worker is ready after 0 s: the cluster has no room for one, or its model takes long to load"
        in capfd.readouterr().err
    )


def test_where_no_machine_is_left_nobody_waits_for_room(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command with a Ray of its own, whose process was killed, waited without an end."""
    monkeypatch.setattr(actor_pool, "SILENCE", 0.01)
    monkeypatch.setattr("ray.nodes", lambda: [{"NodeID": "a", "Alive": False}])
    too_large = ray.remote(num_cpus=1000)(Fragile)
    with pytest.raises(WorkerError, match="given up: no machine of the Ray cluster is alive"):
        list(ActorPool(lambda: too_large.remote(""), 1).map([{"number": 2}]))


def test_rows_are_taken_as_they_are_worked_on(cluster: str, tmp_path: Path) -> None:
    """There is no end of them here."""
    taken: list[int] = []
    endless = ({"number": taken.append(number) or number} for number in count())
    answers = [answer["number"] for answer in islice(ActorPool(starts(tmp_path), 2).map(endless), 3)]
    assert len(set(answers)) == 3
    assert set(answers) <= set(taken)
    assert len(taken) <= 6


def test_no_rows_need_no_actor(tmp_path: Path) -> None:
    assert list(ActorPool(lambda: pytest.fail("an actor was started"), 0).map([])) == []
