"""Tokens and image attending to each other: the body of the mask decoder (Kirillov et al. 2023, figure 14).

Structure and parameter names are those of `modeling/transformer.py` in the released code. Everywhere a batch is N
prompts; the image side may keep a batch of 1 as long as all prompts see the same image.
"""

from torch import Tensor, nn

from sam_core.model.attention import attention
from sam_core.model.layers import MLPBlock


class Attention(nn.Module):
    """Multi-head attention inside `dim // downsample` channels."""

    def __init__(self, dim: int, num_heads: int, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [N or 1, T, C], k and v [N or 1, U, C] -> [N, T, C]."""
        n = max(len(q), len(k))
        q, k, v = (self._heads(x).expand(n, -1, -1, -1) for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v)))
        attended = attention(q, k, v, scale=q.shape[-1] ** -0.5)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


class TwoWayAttentionBlock(nn.Module):
    """Tokens to tokens, tokens to image, a perceptron on the tokens, image to tokens; post-norm."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, num_heads, downsample=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLPBlock(dim, mlp_dim, nn.ReLU)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, num_heads, downsample=2)

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """tokens [N, T, C], image [N or 1, h * w, C], and what marks their positions -> both, updated."""
        tokens = self.norm1(self._self_attention(tokens, token_pe))
        seen = self.cross_attn_token_to_image(q=tokens + token_pe, k=image + image_pe, v=image)
        tokens = self.norm2(tokens + seen)
        tokens = self.norm3(tokens + self.mlp(tokens))
        seen = self.cross_attn_image_to_token(q=image + image_pe, k=tokens + token_pe, v=tokens)
        return tokens, self.norm4(image + seen)

    def _self_attention(self, tokens: Tensor, token_pe: Tensor) -> Tensor:
        if self.first:  # the tokens are still their own positions, and nothing is worth keeping beside the result
            out: Tensor = self.self_attn(tokens, tokens, tokens)
            return out
        q = tokens + token_pe
        attended: Tensor = self.self_attn(q, q, tokens)
        return tokens + attended


class TwoWayTransformer(nn.Module):
    """`depth` two-way blocks, then a last look of the tokens at the image."""

    def __init__(self, dim: int, *, depth: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(dim, num_heads, mlp_dim, first=index == 0) for index in range(depth)
        )
        self.final_attn_token_to_image = Attention(dim, num_heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, image: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """tokens [N, T, C], image [N or 1, h * w, C], image_pe [1, h * w, C] -> tokens [N, T, C], image [N, h * w, C].

        The tokens as given also serve as their own positions in every layer.
        """
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        seen = self.final_attn_token_to_image(q=tokens + token_pe, k=image + image_pe, v=image)
        return self.norm_final_attn(tokens + seen), image
