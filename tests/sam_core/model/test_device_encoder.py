"""What the encoder on a device does in another way than `ImageEncoder`; the whole is compared with that elsewhere."""

import torch
import torch.nn.functional as F

from sam_core.model.checkpoint import load_model
from sam_core.model.device_encoder import DeviceEncoder, linear_gelu
from sam_core.model.relative_attention import attend_layer
from sam_core.model.sam import Sam
from sam_core.presets import vit_test


def test_gelu_in_the_product() -> None:
    """Off by no more than the two ways of rounding to bfloat16 are."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 5, 32), torch.randn(48, 32) / 6, torch.randn(48)
    exact = F.gelu(F.linear(x.bfloat16().float(), weight.bfloat16().float(), bias.bfloat16().float()))
    ours = linear_gelu(x.bfloat16(), weight.bfloat16(), bias.bfloat16())
    assert ours.shape == (3, 5, 48)
    torch.testing.assert_close(ours.float(), exact, rtol=0.01, atol=0.01)


@torch.inference_mode()
def test_sums_that_wait_are_added_in_the_end() -> None:
    """Crops of two sizes, with a plain patch embedding and with a convolutional stem."""
    torch.manual_seed(0)
    for sam in (Sam(vit_test()).eval(), load_model("vit_n").sam):
        side = sam.config.image_size
        pixels, sizes = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8), [(side, side // 2), (side, side)]
        pixels[0, :, side // 2 :] = 0
        images = (pixels.permute(0, 3, 1, 2) - sam.pixel_mean) / sam.pixel_std
        images[0, :, :, side // 2 :] = 0
        theirs = sam.image_encoder(images)
        ours = DeviceEncoder(sam, attend_layer)(pixels, torch.tensor(sizes))
        torch.testing.assert_close(ours.embedding, theirs.embedding, rtol=1e-4, atol=1e-4)
        for mine, yours in zip(ours.fine, theirs.fine, strict=True):
            torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4)
