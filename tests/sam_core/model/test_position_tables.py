"""Position tables at other sizes: linear as in the released code, and whole models that go on at another size."""

import pytest
import torch

from sam_core.model.position_tables import resize_absolute_table, resize_model_state, resize_relative_table
from sam_core.model.sam import Sam
from sam_core.presets import at_image_size, vit_n, vit_test
from tests.released import import_released


@pytest.mark.parametrize(("have", "want"), [(7, 7), (7, 15), (31, 63), (63, 31), (27, 5)])
def test_relative_tables_are_resized_as_released(have, want):
    import_released()
    from segment_anything.modeling.image_encoder import get_rel_pos

    table, side = torch.randn(have, 8), (want + 1) // 2
    pairs = get_rel_pos(side, side, table)
    resized = resize_relative_table(table, want)
    assert torch.equal(resized, torch.cat([pairs[0].flip(0), pairs[1:, 0]]))


def test_absolute_table_of_the_same_size_is_itself():
    table = torch.randn(1, 4, 4, 8)
    assert resize_absolute_table(table, 4, 4) is table


def test_absolute_table_keeps_a_linear_ramp():
    ramp = torch.linspace(-1, 1, 8).view(1, 8, 1, 1).expand(1, 8, 8, 1)
    inside = resize_absolute_table(ramp, 16, 16)[0, 4:-4, 8, 0]
    torch.testing.assert_close(inside.diff(), torch.full((7,), 1 / 7), atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [vit_n(), vit_test()], ids=lambda config: config.name)
def test_a_model_goes_on_at_another_size(config):
    small, large = at_image_size(config, 64), at_image_size(config, 128)
    before = Sam(small).state_dict()
    after = resize_model_state(before, large)
    Sam(large).load_state_dict(after)
    changed = {name for name in before if before[name].shape != after[name].shape}
    encoder = config.image_encoder
    tables = {
        f"image_encoder.blocks.{block}.attn.rel_pos_{axis}" for block in encoder.global_attn_indexes for axis in "hw"
    }
    assert changed == tables | {"image_encoder.pos_embed"}
    assert all(torch.equal(before[name], after[name]) for name in before if name not in changed)


def test_resizing_the_state_is_what_the_encoder_does_to_a_larger_image():
    small, large = vit_test(), at_image_size(vit_test(), 96)
    sam, resized = Sam(small).eval(), Sam(large).eval()
    torch.nn.init.normal_(sam.image_encoder.blocks[1].attn.rel_pos_h)
    resized.load_state_dict(resize_model_state(sam.state_dict(), large))
    image = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(sam.image_encoder(image).embedding, resized.image_encoder(image).embedding)
