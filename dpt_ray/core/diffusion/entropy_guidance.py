"""Entropy guidance: sampling that looks for images of which a classifier is unsure."""

from collections.abc import Callable

import torch
from torch import Tensor

from dpt_ray.core.diffusion.denoiser import Denoiser, per_image


def entropy_guided(denoiser: Denoiser, logits: Callable[[Tensor], Tensor], scale: float) -> Denoiser:
    """Raise the entropy of a classifier's prediction (Askari-Hemmat et al. 2025, arXiv 2502.15588, section 3).

    The paper adds scale * gradient of H(p(D(x))) with respect to x to the score. Here D is the denoiser, p the
    classifier's softmax and H its entropy in nats. The score is (D(x) - x) / sigma^2, so the denoiser becomes

        D(x) + scale * sigma^2 * gradient of H(p(D(x)))

    Each evaluation also goes backward through denoiser and classifier. It must not run in inference mode.

    Args:
        denoiser: the denoiser, with the guidance that it has.
        logits: maps clean images (B, C, H, W) in [-1, 1], float32, to logits (B, num_classes).
        scale: the paper's omega >= 0, dimensionless. At 0 `denoiser` itself is returned.

    Raises:
        ValueError: `scale` is negative.
    """
    if not scale >= 0:
        raise ValueError(f"the scale of entropy guidance must be >= 0: got {scale}")
    if scale == 0:
        return denoiser

    def denoise(x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        with torch.enable_grad():
            noisy = x.detach().requires_grad_()
            clean = denoiser(noisy, sigma, label)
            total = entropy(logits(clean.to(torch.float32))).sum()
            (gradient,) = torch.autograd.grad(total, noisy)
        return clean.detach() + scale * per_image(sigma) ** 2 * gradient

    return denoise


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy in nats of softmax(logits), (B,), for logits (B, num_classes)."""
    log_probabilities = logits.log_softmax(dim=1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)
