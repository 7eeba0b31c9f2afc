"""Two ways of answering points, which must agree; and which cells of the embedding can reach a crop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam_core import prompting
from sam_core.geometry import frame_of, upscale_logits
from sam_core.model.absorbed_decoder import AbsorbedDecoder as Decoder
from sam_core.model.sam import Sam
from sam_core.model.upscaling import UNSEEN
from sam_core.predict import encode
from sam_core.presets import MaskDecoderConfig, vit_test
from sam_core.prompting import AbsorbedPrompter, PlainPrompter, seen_cells


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(5)
    model = Sam(vit_test()).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("size", [(40, 64), (64, 30), (64, 64), (200, 7)])
@torch.inference_mode()
def test_both_prompters_say_the_same_of_what_the_crop_shows(sam, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    embedding = encode(sam, [image])
    points = np.random.default_rng(1).random((5, 2)) * size[::-1]
    plain, absorbed = (kind(sam, embedding).ask(points) for kind in (PlainPrompter, AbsorbedPrompter))
    np.testing.assert_allclose(absorbed.iou, plain.iou, atol=1e-4)
    wanted = np.random.default_rng(2).random((5, 3)) > 0.4
    ours, theirs = (upscale_logits(x.draw(wanted)[None], embedding.frames[0]) for x in (absorbed, plain))
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 500), (33, 64), (47, 64), (48, 64), (49, 64), (64, 17), (64, 64), (3000, 2000)])
def test_no_cell_that_is_not_seen_reaches_the_crop(sam, size):
    frame, low_res = frame_of(size, image_size=64), sam.config.low_res_size
    rows, columns = seen_cells(frame, sam)
    logits = torch.zeros(1, 1, low_res, low_res)
    logits[..., 4 * rows :, :] = UNSEEN
    logits[..., 4 * columns :] = UNSEEN
    assert (upscale_logits(logits, frame) == 0).all()
    assert rows <= sam.config.image_encoder.grid
    assert columns <= sam.config.image_encoder.grid


@pytest.mark.parametrize(("channels", "split"), [(256, True), (128, False)])
def test_products_are_taken_apart_where_that_is_faster(monkeypatch, channels, split):
    asked = []
    monkeypatch.setattr(prompting, "AbsorbedDecoder", lambda decoder, *, split: asked.append(split) or Decoder(decoder))
    config = vit_test()
    encoder = replace(config.image_encoder, out_chans=channels)
    wide = Sam(replace(config, image_encoder=encoder, mask_decoder=MaskDecoderConfig(transformer_dim=channels))).eval()
    AbsorbedPrompter(wide, encode(wide, [np.zeros((64, 64, 3), np.uint8)]))
    assert asked == [split]
