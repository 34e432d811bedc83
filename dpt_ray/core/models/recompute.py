"""Activation checkpointing: less memory for one more forward pass of every block."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def run_block(block: Callable[..., Tensor], *inputs: Tensor | None, recompute: bool) -> Tensor:
    """Call a block; with `recompute` the backward pass computes its activations anew instead of keeping them.

    The blocks here draw no random numbers, so both ways compute the same.
    """
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return block(*inputs)
