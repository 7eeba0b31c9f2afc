"""Scaled dot-product attention, with the kernel that suits what is asked for."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float, bias: Tensor | None = None) -> Tensor:
    """softmax(scale * q k^T + bias) v.

    Training on a CPU takes plain products. torch's fused kernel goes to float32 for its way back there, and its own
    plain one looks three more times at every score for rows that see nothing, of which there are none here.

    Args:
        q: [..., T, c]. k: [..., U, c]. v: [..., U, d], d at most c.
        scale: factor on the scores; always said, or an exported model computes it.
        bias: what is added to the scores, broadcast to [..., T, U].

    Returns:
        [..., T, d], in the dtype of v.
    """
    if not learns_on_cpu(q):
        return _fused(q, k, v, scale, bias)
    scores = (q * scale) @ k.transpose(-2, -1)
    return torch.softmax(scores if bias is None else scores + bias, dim=-1).to(v.dtype) @ v


def learns_on_cpu(q: Tensor) -> bool:
    """Whether gradients will come back through q [...] on a CPU: False in a model that is being exported."""
    return q.requires_grad and q.device.type == "cpu" and not torch.onnx.is_in_onnx_export()


def _fused(q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor | None) -> Tensor:
    """The same by the kernel that torch chooses, which wants q, k and v equally wide."""
    missing = q.shape[-1] - v.shape[-1]
    if not missing:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    wide = F.pad(v, (0, missing))
    return F.scaled_dot_product_attention(q, k, wide, attn_mask=bias, scale=scale)[..., : v.shape[-1]]
