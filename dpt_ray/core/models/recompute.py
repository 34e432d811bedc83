"""Activation checkpointing: saves memory at the cost of a second forward pass of every block."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def run_block(block: Callable[..., Tensor], *inputs: Tensor | None, recompute: bool) -> Tensor:
    """Call a block; with `recompute`, the backward pass recomputes its activations instead of keeping them.

    The result is the same either way, because the blocks draw no random numbers.
    """
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return block(*inputs)
