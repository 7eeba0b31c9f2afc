"""The training loop: stopped anywhere and resumed, it ends with the same weights, however it is cut up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam_core.training.config import TrainConfig
from sam_core.training.targets import TrainBatch
from tests.workflows.train.conftest import STEPS, small_config
from workflows.storage import LocalStore, StoreError
from workflows.train import checkpoints, worker
from workflows.train.first_model import first_model
from workflows.train.loop import MachineError, Made, NoRoomError, Trainer, TrainingError
from workflows.train.metrics import StepMetrics, read_metrics, save_metrics
from workflows.train.samples import Sampler, numbers_of
from workflows.train.sources import open_sources
from workflows.train.state import TrainState, from_bytes, to_bytes
from workflows.train.stream import from_bytes as batch_from_bytes
from workflows.train.stream import to_bytes as batch_to_bytes
from workflows.train.team import Team, checkpoint_activations, clip_gradients, join_encoder
from workflows.train.worker import TrainJob, is_out_of_memory


def run(state: TrainState, config: TrainConfig, data: Path, last: int = STEPS, parts: int = 1) -> list[StepMetrics]:
    progress: list[StepMetrics] = []
    trainer_of(state, config, data).run(state, steps(config, data, state.step, last, parts), progress.append)
    return progress


def trainer_of(state: TrainState, config: TrainConfig, data: Path) -> Trainer:
    sampler = Sampler(open_sources((str(data),), need_masks=True), config)
    return Trainer(config, Team(), join_encoder(state.model, Team(), sharded=False), sampler.describe)


def steps(config: TrainConfig, data: Path, first: int, last: int, parts: int = 1) -> Iterator[Made]:
    sampler = Sampler(open_sources((str(data),), need_masks=True), config)
    for step in range(first, last):
        cut = [numbers_of(step, config.images, rank=0, workers=1, part=part, parts=parts) for part in range(parts)]
        yield Made([sampler.batch(numbers) for numbers in cut], sampler.take_left_out())


def fresh(config: TrainConfig) -> TrainState:
    return TrainState.fresh(first_model(config, None).train(), config)


@pytest.mark.parametrize("spoilt", [0, 2])
def test_a_resumed_run_ends_with_bit_identical_weights(labelled: Path, spoilt: int) -> None:
    for number in range(spoilt):
        (labelled / "images" / f"{number}.png").write_bytes(b"\x89PNG and no more")
    config = small_config(drop_path=0.3)
    undisturbed, first, second = fresh(config), fresh(config), fresh(replace(config, seed=3))
    told = run(undisturbed, config, labelled)
    assert len({place for progress in told for place in progress.left_out}) == spoilt
    begun = run(first, config, labelled, last=2)
    second.restore(from_bytes(to_bytes(first.tensors())))
    resumed = run(second, config, labelled)
    assert [progress.left_out for progress in begun + resumed] == [progress.left_out for progress in told]
    for ours, theirs in ((second.model, undisturbed.model), (second.average, undisturbed.average)):
        for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def test_parts_of_a_step_add_up_to_the_step(labelled: Path) -> None:
    config = small_config()
    whole, cut = fresh(config), fresh(config)
    one, two = run(whole, config, labelled, last=3), run(cut, config, labelled, last=3, parts=2)
    for a, b in zip(one, two, strict=True):
        assert a.masks == b.masks
        assert a.values == pytest.approx(dict(b.values), abs=1e-4)
    for a, b in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_gradients_are_no_longer_than_the_limit() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (2, 1, 3)]
    for limit, scale in ((0.0, 1.0), (26.0, 1.0), (6.5, 0.5)):
        parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
        assert clip_gradients(parameters, limit) == 13
        torch.testing.assert_close(parameters[0].grad, scale * torch.tensor([3.0, 4.0]))
        torch.testing.assert_close(parameters[1].grad, scale * torch.tensor([12.0]))


def test_steps_are_as_long_as_the_schedule_says(labelled: Path) -> None:
    """AdamW's first step is the learning rate for every weight that has a gradient."""
    config = small_config(weight_decay=0.0, average=0.99)
    state = fresh(config)
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    (done,) = run(state, config, labelled, last=1)
    after = {name: p.detach() for name, p in state.model.named_parameters()}
    moved = max(float((after[name] - p).abs().max()) for name, p in before.items())
    assert moved == pytest.approx(done.learning_rate, rel=1e-2)
    assert done.learning_rate == config.learning_rate.at(0)
    for name, mean in state.average.named_parameters():  # young averages forget the weights that were drawn
        torch.testing.assert_close(mean, 0.1 * before[name] + 0.9 * after[name])


def test_forgotten_activations_change_nothing(labelled: Path) -> None:
    config = small_config(drop_path=0.3)
    kept, forgotten = fresh(config), fresh(config)
    checkpoint_activations(forgotten.model)
    assert [p.values for p in run(kept, config, labelled, last=2)] == [
        p.values for p in run(forgotten, config, labelled, last=2)
    ]
    for a, b in zip(kept.model.parameters(), forgotten.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_batch(labelled: Path) -> None:
    config = small_config()
    state = fresh(config)
    state.model.mask_decoder.iou_token.weight.data[:] = torch.nan
    before = {name: p.clone() for name, p in state.model.named_parameters()}
    with pytest.raises(TrainingError, match=r"step 0: the loss is not finite, for images 0 to 3 of the run \(/.*png, "):
        run(state, config, labelled, last=1)
    assert all(torch.equal(p, before[name]) for name, p in state.model.named_parameters() if "iou_token" not in name)
    assert state.step == 0


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(ValueError("photo.png: not there any more"), TrainingError), (StoreError("no connection"), MachineError)],
)
def test_an_unreadable_sample_stops_with_its_own_words(
    labelled: Path, failure: Exception, kind: type[TrainingError]
) -> None:
    def broken() -> Iterator[Made]:
        raise failure
        yield

    config = small_config()
    state = fresh(config)
    with pytest.raises(TrainingError, match=f"step 0: {failure}") as stopped:
        trainer_of(state, config, labelled).run(state, broken(), lambda _: None)
    assert stopped.type is kind


def test_checkpoints_are_whole_or_absent_and_the_last_two_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PART_BYTES", 1000)
    store = LocalStore(tmp_path)
    assert checkpoints.load_latest(store, "run") is None
    for step in (1, 2, 3):
        checkpoints.save(store, "run", {"step": step, "model": {"w": torch.full((900,), float(step))}})
    assert checkpoints.steps(store, "run") == [2, 3]
    found = checkpoints.load_latest(store, "run")
    assert found is not None
    assert torch.equal(found["model"]["w"], torch.full((900,), 3.0))
    part = next(tmp_path.glob("**/checkpoint-00000003/part-0001"))
    part.write_bytes(bytes(len(part.read_bytes())))
    with pytest.raises(ValueError, match="damaged"):
        checkpoints.load_latest(store, "run")
    part.unlink()
    with pytest.raises(ValueError, match="damaged; delete its folder"):
        checkpoints.load_latest(store, "run")
    (part.parent / "whole.json").unlink()
    assert checkpoints.steps(store, "run") == [2]


@pytest.mark.parametrize("writes", [2, 6])
def test_nothing_is_left_of_checkpoints_that_were_half_written_or_half_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Killed with so many pieces, or deletions, done of what the third checkpoint takes."""
    monkeypatch.setattr(checkpoints, "PART_BYTES", 1000)
    store, done = LocalStore(tmp_path), list[str]()

    def save(step: int) -> None:
        checkpoints.save(store, "run", {"step": step, "model": {"w": torch.full((500,), float(step))}})

    def killed(write: Callable[..., None]) -> Callable[..., None]:
        def attempt(self: LocalStore, key: str, *data: bytes) -> None:
            if len(done) == writes:
                raise KeyboardInterrupt
            done.append(key)
            write(self, key, *data)

        return attempt

    save(1)
    save(2)
    with monkeypatch.context() as patch:
        for name in ("put", "delete"):
            patch.setattr(LocalStore, name, killed(getattr(LocalStore, name)))
        with pytest.raises(KeyboardInterrupt):
            save(3)
    save(4)
    save(5)
    assert {path.parent.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "checkpoint-00000004",
        "checkpoint-00000005",
    }


def test_metrics_are_read_back_once_per_step_and_tensorboard_has_them(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    rows = [StepMetrics(step, {"dice": 0.1 * step}, 8, 1e-3, 0.5, 0.1) for step in range(1, 6)]
    rows[1] = replace(rows[1], left_out={"a.png": "the file has no bytes"})
    save_metrics(store, "run", rows[:3])
    save_metrics(store, "run", rows[2:])
    assert read_metrics(store, "run") == rows
    events = list(tmp_path.glob("**/events.out.tfevents.*"))
    assert len(events) == 2
    assert b"train/dice" in events[0].read_bytes()
    assert b"train/left_out" in events[0].read_bytes()


def test_a_batch_travels_unchanged(labelled: Path) -> None:
    (made,) = steps(small_config(), labelled, 3, 4)
    parts = made.parts
    found = batch_from_bytes(batch_to_bytes(parts[0]))
    for name in set(TrainBatch.__slots__) - {"text", "centres"}:
        assert torch.equal(getattr(found, name), getattr(parts[0], name))
    assert found.text is found.centres is None
    rows = torch.randn(len(parts[0].masks), 5)
    more = batch_from_bytes(batch_to_bytes(replace(parts[0], text=rows, centres=rows[:, :2])))
    assert torch.equal(more.text, rows)
    assert torch.equal(more.centres, rows[:, :2])


def test_lack_of_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as failure:
        torch.empty(1 << 55, dtype=torch.float64)
    assert is_out_of_memory(failure.value)
    assert not is_out_of_memory(RuntimeError("connection closed by peer"))


def test_too_little_memory_is_said_before_anything_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "machine_memory", lambda _: 1e5)
    job = TrainJob("", "", small_config(), None, [], None, None, parts=2, every=1, threads=1)  # type: ignore[arg-type]
    wanted = r"need 0.0 GiB, .* too little memory for 1 images of 64 px with up to 3 masks at once; --checkpoint-activ"
    with pytest.raises(NoRoomError, match=wanted):
        worker.require_memory(job, Team(workers=2), first_model(small_config(), None))
    advice = worker.memory_advice(replace(job, parts=1), Team(workers=2))
    assert "--accumulate 2 halves the images" in advice
    assert "--shard spreads the encoder" in advice
    assert "--masks-per-image 1 halves the masks" in advice
