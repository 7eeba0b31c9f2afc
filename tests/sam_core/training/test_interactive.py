"""One training step: gradients equal those of the plain graph, and learning happens."""

from dataclasses import replace

import pytest
import torch

from sam_core.answers import is_single
from sam_core.model.prompt_encoder import Prompts
from sam_core.model.sam import Sam
from sam_core.presets import vit_test
from sam_core.training.draws import prompt_draws
from sam_core.training.interactive import (
    first_prompts,
    prompt_tokens,
    rounds_of,
    run_round,
    summary,
    text_prompts,
    train_rounds,
)
from sam_core.training.losses import RoundLoss
from sam_core.training.nano_presets import nano, nano_gpu
from sam_core.training.prompt_sampler import boxes_around, first_points
from sam_core.training.targets import TrainBatch, merge, normalised, truth_of

CONFIG = replace(nano()[0], model="vit_test", image_size=64, points=2, refinements=2, bfloat16=False)


def batch() -> TrainBatch:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(4, 64, 64, dtype=torch.bool)
    for i, mask in enumerate(masks):
        mask[8 * i : 8 * i + 20, 5 : 30 + 5 * i] = True
    images = torch.randint(0, 255, (2, 64, 64, 3), generator=generator, dtype=torch.uint8)
    return TrainBatch(
        images, torch.tensor([[64, 64], [48, 64]]), masks, torch.tensor([0, 0, 1, 1]), torch.tensor([5, 6])
    )


def model() -> Sam:
    torch.manual_seed(0)
    return Sam(vit_test())


def test_gradients_through_the_features_equal_those_of_one_graph() -> None:
    config = replace(CONFIG, points=0, refinements=0)
    stepped, whole = model(), model()
    train_rounds(stepped, batch(), config, 0)

    data = batch()
    features = whole.image_encoder(normalised(data, whole.pixel_mean, whole.pixel_std))
    prompts = first_prompts(data, config, prompt_draws(data, config.seed))
    loss, _ = run_round(whole, features.take(data.image_of), prompts, truth_of(data, 16), config)
    loss.total.backward()
    for (name, a), b in zip(stepped.named_parameters(), whole.parameters(), strict=True):
        if b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_so_many_first_points_are_centres() -> None:
    masks = torch.zeros(300, 64, 64, dtype=torch.bool)
    masks[:, 8:56, 8:56] = True
    one = batch()
    data = TrainBatch(one.images[:1], one.sizes[:1], masks, torch.zeros(300, dtype=torch.int64), one.numbers[:1])
    data = replace(data, centres=torch.full((300, 2), 31.0))
    found = [
        (first_prompts(data, replace(CONFIG, box_share=0, centre_share=share), prompt_draws(data, 0)).xy[:, 0] == 31)
        .all(1)
        .float()
        .mean()
        for share in (0.0, 0.5, 1.0)
    ]
    assert found[0] < 0.02
    assert 0.4 < found[1] < 0.6
    assert found[2] == 1


def test_a_step_is_a_function_of_its_seed() -> None:
    losses = [train_rounds(model(), batch(), replace(CONFIG, seed=seed), 0) for seed in (1, 1, 2)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_few_steps_lower_the_loss() -> None:
    sam, data = model(), batch()
    optimizer = torch.optim.AdamW(sam.parameters(), lr=3e-3)
    dice = []
    for step in range(40):
        optimizer.zero_grad()
        dice.append(train_rounds(sam, data, replace(CONFIG, seed=step), step).dice)
        optimizer.step()
    assert sum(dice[-5:]) < 0.8 * sum(dice[:5])


def test_padding_is_zero_after_normalisation() -> None:
    pixels = normalised(batch(), torch.full((3, 1, 1), 100.0), torch.full((3, 1, 1), 50.0))
    assert (pixels[1, :, 48:] == 0).all()
    shown = batch().images.permute(0, 3, 1, 2).float()
    torch.testing.assert_close(pixels[1, :, :48], (shown[1, :, :48] - 100) / 50)
    torch.testing.assert_close(pixels[0], (shown[0] - 100) / 50)


def test_boxes_are_off_by_at_most_20_px_of_1024() -> None:
    data = batch()
    prompts = first_prompts(data, replace(CONFIG, box_share=1), prompt_draws(data, 0))
    off = (prompts.xy.reshape(4, 4) - boxes_around(data.masks)).abs()
    assert 0.5 < off.max() <= 20 * 64 / 1024 + 1e-5


def test_figures_of_a_step_are_of_its_first_and_last_round() -> None:
    rounds = [
        RoundLoss(
            *torch.tensor([0.0, number, 2 * number, 3 * number]),
            best=torch.tensor([0, 0]),
            chosen=torch.tensor(chosen),
            real_iou=torch.tensor(iou),
        )
        for number, iou, chosen in (
            (1.0, [[0.2, 0.6], [0.4, 0.1]], [0, 1]),
            (2.0, [[0.9, 0.0], [0.8, 0.0]], [0, 0]),
            (3.0, [[0.5], [0.7]], [0, 0]),
        )
    ]
    found = summary(rounds)
    assert (found.focal, found.dice, found.iou) == pytest.approx((2, 4, 6))
    assert (found.first_iou, found.best_first_iou, found.last_iou) == pytest.approx((0.15, 0.5, 0.6))


def test_merging_shifts_image_indices() -> None:
    both = merge([batch(), batch()])
    assert both.image_of.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert both.images.shape == (4, 64, 64, 3)


def test_the_image_is_encoded_once_for_all_rounds() -> None:
    sam, calls = model(), []
    sam.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    train_rounds(sam, batch(), CONFIG, 0)
    assert len(calls) == 1


def test_two_halves_of_a_batch_add_up_to_the_whole() -> None:
    whole, halves, data = model(), model(), batch()
    train_rounds(whole, data, CONFIG, 7)
    for image in (0, 1):
        mine = data.image_of == image
        part = TrainBatch(
            data.images[image : image + 1],
            data.sizes[image : image + 1],
            data.masks[mine],
            torch.zeros(2, dtype=torch.int64),
            data.numbers[image : image + 1],
        )
        train_rounds(halves, part, CONFIG, 7, weight=0.5)
    for (name, a), b in zip(halves.named_parameters(), whole.parameters(), strict=True):
        if b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_a_mask_beside_the_first_prompt_asks_for_one_mask_as_in_use() -> None:
    data = batch()
    first = first_prompts(data, replace(CONFIG, box_share=0), prompt_draws(data, 0))
    refined = replace(first, logits=torch.zeros(4, 1, 16, 16))
    used = Prompts(first.xy[:, :1], first.labels[:, :1])
    assert (first.single, refined.single) == (is_single(used), is_single(replace(used, mask_logits=refined.logits)))


TEXT_CONFIG = replace(CONFIG, text=True, text_width=6, clip_sha256="c" * 64, points=1, refinements=0)


def text_model() -> Sam:
    torch.manual_seed(0)
    return Sam(TEXT_CONFIG.sam)


def text_batch() -> TrainBatch:
    text = torch.nn.functional.normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(1)), dim=-1)
    return replace(batch(), text=text)


def test_embeddings_are_the_first_prompt_and_learn() -> None:
    sam = text_model()
    train_rounds(sam, text_batch(), TEXT_CONFIG, 0)
    assert sam.text_prompt is not None
    assert sam.text_prompt.projection.weight.grad is not None
    assert sam.text_prompt.projection.weight.grad.abs().sum() > 0
    corners = [sam.prompt_encoder.point_embeddings[kind].weight.grad for kind in (2, 3)]
    assert all(grad is None or not grad.any() for grad in corners)  # no box was drawn


def test_a_text_alone_asks_for_three_masks_and_a_click_makes_it_clear() -> None:
    data = text_batch()
    assert data.text is not None
    draws = prompt_draws(data, 0)
    prompts = text_prompts(data, TEXT_CONFIG, draws)
    assert prompts.single
    torch.testing.assert_close(prompts.text, data.text)
    clicked = prompts.with_clicks(first_points(data.masks, draws))
    assert not clicked.single
    assert clicked.labels.tolist() == [[-1, -1, 1]] * 4


def test_some_masks_begin_with_a_point_or_a_box() -> None:
    data, config = text_batch(), replace(TEXT_CONFIG, text_share=0.5, box_share=0.5)
    assert data.text is not None
    kinds = set()
    for seed in range(20):
        draws = prompt_draws(data, seed)
        prompts = text_prompts(data, config, draws)
        assert prompts.spoken is not None
        kinds |= {(bool(s), *row) for s, row in zip(prompts.spoken, prompts.labels.tolist(), strict=True)}
    assert kinds == {(True, -1, -1), (False, 1, -1), (False, 2, 3)}
    sam = text_model()
    none = replace(prompts, spoken=torch.zeros(4, dtype=torch.bool))
    plain = sam.prompt_encoder.embed(prompts.xy, prompts.labels, None)
    torch.testing.assert_close(prompt_tokens(sam, none).sparse, plain.sparse)


def test_training_sees_a_text_as_prediction_does() -> None:
    sam, data = text_model().eval(), text_batch()
    assert data.text is not None
    draws = prompt_draws(data, 0)
    clicks = first_points(data.masks, draws)
    alone = text_prompts(data, TEXT_CONFIG, draws)
    clicked = Prompts(clicks.xy[:, None], clicks.labels[:, None], text=data.text)
    for state, prompts in ((alone, Prompts(text=data.text)), (alone.with_clicks(clicks), clicked)):
        trained = prompt_tokens(sam, state).sparse
        predicted = sam.with_text(sam.prompt_encoder(prompts), prompts.text).sparse
        torch.testing.assert_close(trained.sum(1), predicted.sum(1))  # the order of tokens is of no consequence


def test_noise_keeps_the_length_and_follows_the_seed() -> None:
    data = text_batch()
    assert data.text is not None
    noisy = replace(TEXT_CONFIG, text_noise=0.5)
    one, same, other = (text_prompts(data, noisy, prompt_draws(data, seed)).text for seed in (0, 0, 1))
    assert one is not None
    torch.testing.assert_close(one.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(one, same)
    assert not torch.equal(one, other)
    assert 0.7 < float((one * data.text).sum(1).mean()) < 0.99


def test_batches_with_and_without_embeddings_do_not_mix() -> None:
    merged = merge([text_batch(), text_batch()])
    assert merged.text is not None
    assert merged.text.shape == (8, 6)
    with pytest.raises(ValueError, match="some batches have text embeddings and some have none"):
        merge([text_batch(), batch()])
    with pytest.raises(ValueError, match="4 masks but 3 embeddings"):
        replace(text_batch(), text=torch.zeros(3, 6))


def test_the_number_of_corrections_is_drawn_for_every_step() -> None:
    config = nano_gpu()[-1]
    counts = [len(rounds_of(config, step)) - 1 for step in range(400)]
    assert set(counts) == set(range(1, config.points + 1))
    assert sum(counts) / len(counts) == pytest.approx(config.rounds - 1, rel=0.1)
    assert rounds_of(config, 7) == rounds_of(config, 7)
    assert {len(rounds_of(replace(config, fewer_points=False), step)) for step in range(9)} == {config.points + 1}
