"""A text prompt: a CLIP embedding becomes one sparse token, where points and boxes go (Kirillov et al. 2023, D.5).

How 768 numbers become 256 is not said in the paper; here by one linear layer. A text is a prompt like a point: without
a box it is followed by the padding point, once, however many points there are too.

    text           text, padding
    text, points   text, points, padding
    text, box      text, corners
"""

from torch import Tensor, nn


class TextPrompt(nn.Module):
    """width: of a CLIP embedding. dim: of a prompt token."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.width = width
        self.projection = nn.Linear(width, dim)

    def forward(self, text: Tensor) -> Tensor:
        """Rows of length 1, [N, width] -> [N, 1, dim]. Raises ValueError for another width."""
        if text.shape[1:] != (self.width,):
            raise ValueError(f"this model takes CLIP embeddings of width {self.width}, not {list(text.shape[1:])}")
        token: Tensor = self.projection(text * self.width**0.5)  # numbers about as large as those of a point
        return token[:, None]
