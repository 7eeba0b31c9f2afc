"""Image features and prompts to mask logits and predicted IoU (Kirillov et al. 2023, section A, mask decoder).

Structure and parameter names are those of `modeling/mask_decoder.py` in the released code. New here: fine features
of a convolutional stem join the upscaling where there are any, as in SAM 2 (Ravi et al. 2024, section D.1).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.layers import MLP, LayerNorm2d
from sam_core.model.two_way_transformer import TwoWayTransformer
from sam_core.presets import MaskDecoderConfig


class MaskPredictions(NamedTuple):
    """logits: [N, M, 4h, 4w], low resolution, a mask where above 0. iou: [N, M], predicted, not bounded to 0..1."""

    logits: Tensor
    iou: Tensor


class DecodedTokens(NamedTuple):
    """iou: [N, C]. masks: [N, 1 + multimask, C]. image: the image as the prompts left it, [N, C, h, w]."""

    iou: Tensor
    masks: Tensor
    image: Tensor


class MaskDecoder(nn.Module):
    """One token for the predicted IoU and 1 + `num_multimask_outputs` tokens for masks.

    Output 0 is for prompts that leave no doubt, the others for ambiguous ones such as a single click.
    """

    def __init__(self, config: MaskDecoderConfig) -> None:
        super().__init__()
        dim, outputs = config.transformer_dim, config.num_multimask_outputs + 1
        self.transformer = TwoWayTransformer(
            dim, depth=config.depth, num_heads=config.num_heads, mlp_dim=config.mlp_dim
        )
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(outputs, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(dim, dim, dim // 8, 3) for _ in range(outputs))
        self.iou_prediction_head = MLP(dim, config.iou_head_hidden_dim, outputs, config.iou_head_depth)

    def forward(
        self, features: ImageFeatures, image_pe: Tensor, sparse: Tensor, dense: Tensor, *, multimask: bool
    ) -> MaskPredictions:
        """Masks of N prompts.

        features: of one image that all prompts share (a batch of 1), or one per prompt (a batch of N).
        image_pe: [1, C, h, w]. sparse: [N, T, C]. dense: [N, C, h, w], or [1, C, 1, 1] where no prompt has a mask.
        multimask: outputs 1.. rather than output 0 alone.
        """
        tokens = self.attend(features.embedding, image_pe, sparse, dense)
        return self.predictions(tokens, features.fine, multimask=multimask)

    def predictions(self, tokens: DecodedTokens, fine: tuple[Tensor, ...], *, multimask: bool) -> MaskPredictions:
        """What the heads make of the tokens; `fine` and `multimask` as of `upscale` and `forward`."""
        outputs = slice(1, None) if multimask else slice(0, 1)
        filters = self.mask_filters(tokens.masks, outputs)
        upscaled = self.upscale(tokens.image, fine)
        logits = torch.einsum("nmc,nchw->nmhw", filters, upscaled)
        return MaskPredictions(logits, self.iou_prediction_head(tokens.iou)[:, outputs])

    def attend(self, embedding: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor) -> DecodedTokens:
        """Runs the transformer: embedding [1 or N, C, h, w] and N prompts -> what the heads need."""
        n, (h, w) = len(sparse), embedding.shape[2:]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(n, -1, -1)
        tokens = torch.cat([own, sparse], dim=1)
        image = (embedding + dense).flatten(2).transpose(1, 2)
        tokens, image = self.transformer(tokens, image, image_pe.flatten(2).transpose(1, 2))
        return DecodedTokens(tokens[:, 0], tokens[:, 1 : own.shape[1]], image.transpose(1, 2).view(n, -1, h, w))

    def mask_filters(self, mask_tokens: Tensor, outputs: slice) -> Tensor:
        """Mask tokens [N, 1 + multimask, C] -> one filter per chosen output, [N, M, C/8]."""
        heads = list(self.output_hypernetworks_mlps)[outputs]
        return torch.stack([head(x) for head, x in zip(heads, mask_tokens[:, outputs].unbind(1), strict=True)], dim=1)

    def upscale(self, image: Tensor, fine: tuple[Tensor, ...]) -> Tensor:
        """[N, C, h, w] -> [N, C/8, 4h, 4w], with the fine features [1 or N, ...] of strides 8 and 4 where given."""
        to_stride_8, norm, activation, to_stride_4, last_activation = self.output_upscaling
        at_8, at_4 = fine or (0, 0)
        x = activation(norm(to_stride_8(image) + at_8))
        out: Tensor = last_activation(to_stride_4(x) + at_4)
        return out
