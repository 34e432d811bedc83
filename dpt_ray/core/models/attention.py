"""Scaled dot-product attention (Vaswani et al. 2017), by the fastest kernel of the device."""

import torch
from torch import Tensor
from torch.nn import functional


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) V, (B, heads, N, d), in the type of the values.

    Args:
        queries: Q, (B, heads, N, d).
        keys: K, (B, heads, N, d).
        values: V, (B, heads, N, d).
    """
    if values.device.type == "cpu" and values.dtype == torch.bfloat16:
        # The backward pass of torch's fused kernel for CPUs takes several times as long as these products.
        weights = (queries @ keys.transpose(-2, -1)).float() * queries.shape[-1] ** -0.5
        return weights.softmax(-1).to(values.dtype) @ values
    return functional.scaled_dot_product_attention(queries, keys, values)
