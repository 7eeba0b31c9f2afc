"""Two workers on the CPU (gloo) beside one with the doubled batch: copied (DDP) and sharded (FSDP2)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.workflows.train.conftest import small_config
from workflows.train.first_model import first_model
from workflows.train.loop import Made, Trainer
from workflows.train.metrics import StepMetrics
from workflows.train.samples import Sampler, numbers_of
from workflows.train.sources import open_sources
from workflows.train.state import TrainState
from workflows.train.team import Team, join_encoder

STEPS = 5
PARTS = 2


def train(team: Team, data: str, *, sharded: bool, frozen: bool) -> tuple[list[StepMetrics], dict[str, Any]]:
    """Five steps of four images in two parts; what happened and the state at the end."""
    config = small_config(grad_clip=0.5, freeze_encoder=frozen)
    model = first_model(config, None).train()
    state = TrainState.fresh(model, config, team, sharded=sharded)
    sampler = Sampler(open_sources((data,), need_masks=True), config)
    cut = {"rank": team.rank, "workers": team.workers, "parts": PARTS}
    steps = (
        Made(
            [sampler.batch(numbers_of(step, config.images, part=part, **cut)) for part in range(PARTS)],
            {f"{step}-{team.rank}.png": "gone"} if step == 1 else {},
        )
        for step in range(STEPS)
    )
    seen: list[StepMetrics] = []
    Trainer(config, team, join_encoder(model, team, sharded=sharded), sampler.describe).run(state, steps, seen.append)
    return seen, state.tensors(kept=team.rank == 0)


def _worker(rank: int, meeting: str, sharded: bool, frozen: bool, data: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    seen, tensors = train(Team(rank, 2), data, sharded=sharded, frozen=frozen)
    if rank == 0:
        torch.save({"seen": [asdict(progress) for progress in seen], **tensors}, out)
    else:  # took part, and has nothing that would fill the memory of the machine that both share
        assert {*tensors["model"].values(), *tensors["average"].values()} == {None}
        assert {value for moments in tensors["optimizer"].values() for value in moments.values()} == {None}
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("sharded", "frozen"), [(False, False), (True, False), (True, True)], ids=["ddp", "fsdp2", "fsdp2-frozen"]
)
def test_two_workers_follow_the_curve_of_one_with_the_doubled_batch(
    tmp_path: Path, labelled: Path, sharded: bool, frozen: bool
) -> None:
    given = (str(tmp_path / "meeting"), sharded, frozen, str(labelled), str(tmp_path / "two.pt"))
    mp.start_processes(_worker, given, nprocs=2, start_method="forkserver")
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    seen, one = train(Team(), str(labelled), sharded=False, frozen=frozen)
    for ours, theirs in zip(seen, two["seen"], strict=True):
        assert ours.masks == theirs["masks"]
        assert dict(ours.values) == pytest.approx(theirs["values"], abs=1e-4)
        assert ours.gradient_norm == pytest.approx(theirs["gradient_norm"], rel=1e-3)
    assert [len(each["left_out"]) for each in two["seen"]] == [0, 2, 0, 0, 0]  # what either worker left out
    assert one["optimizer"].keys() == two["optimizer"].keys()
    for kind in ("model", "average"):
        for name, tensor in one[kind].items():
            torch.testing.assert_close(two[kind][name], tensor, atol=2e-4, rtol=1e-3, msg=f"{kind} {name}")
    resumed = TrainState.fresh(first_model(small_config(), None), small_config())
    resumed.restore({key: two[key] for key in ("step", "model", "average", "optimizer")})
    assert resumed.step == STEPS
