"""The whole model: image encoder, prompt encoder, mask decoder."""

import torch
from torch import Tensor, nn

from sam_core.model.image_encoder import ImageEncoder, ImageFeatures
from sam_core.model.mask_decoder import MaskDecoder, MaskPredictions
from sam_core.model.prompt_encoder import PromptEmbeddings, PromptEncoder, Prompts
from sam_core.model.text_prompt import TextPrompt
from sam_core.model.tiny_vit import TinyViT
from sam_core.presets import RGB, SamConfig, TinyEncoderConfig


class Sam(nn.Module):
    """Segment Anything. State-dict names equal those of the released checkpoints; modules carry gradients."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        encoder, decoder = config.image_encoder, config.mask_decoder
        self.config = config
        self.image_encoder = TinyViT(encoder) if isinstance(encoder, TinyEncoderConfig) else ImageEncoder(encoder)
        self.prompt_encoder = PromptEncoder(decoder.transformer_dim, grid=encoder.grid, image_size=encoder.image_size)
        self.mask_decoder = MaskDecoder(decoder)
        self.text_prompt = TextPrompt(config.text_width, decoder.transformer_dim) if config.text_width else None
        self.register_buffer("pixel_mean", _pixel(config.pixel_mean), persistent=False)
        self.register_buffer("pixel_std", _pixel(config.pixel_std), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.mask_decoder.iou_token.weight.device

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool) -> MaskPredictions:
        """Low-resolution masks of N prompts, whose coordinates are in the frame of the model input.

        features: of one image that all prompts share, or one per prompt (see `ImageFeatures.take`).
        """
        sparse, dense = self.with_text(self.prompt_encoder(prompts), prompts.text)
        image_pe = self.prompt_encoder.dense_positions()
        predictions: MaskPredictions = self.mask_decoder(features, image_pe, sparse, dense, multimask=multimask)
        return predictions

    def with_text(self, prompts: PromptEmbeddings, text: Tensor | None) -> PromptEmbeddings:
        """Embedded prompts with the token of each one's CLIP embedding [N, text_width] before the others.

        Raises ValueError when the model takes none, or embeddings of another width.
        """
        if text is None:
            return prompts
        if self.text_prompt is None:
            raise ValueError(f"{self.config.name} takes no text prompts; train one that does with --preset text")
        return PromptEmbeddings(torch.cat([self.text_prompt(text), prompts.sparse], dim=1), prompts.dense)

    def forward(self, images: Tensor, prompts: Prompts, image_index: Tensor, *, multimask: bool) -> MaskPredictions:
        """Encodes images [B, 3, S, S] and decodes N prompts, prompt i looking at image `image_index[i]`."""
        features: ImageFeatures = self.image_encoder(images)
        return self.decode(features.take(image_index), prompts, multimask=multimask)


def _pixel(values: RGB) -> Tensor:
    """[3, 1, 1], with values even when the model is built on the meta device: no checkpoint would supply them."""
    return torch.tensor(values, device="cpu").view(3, 1, 1)
