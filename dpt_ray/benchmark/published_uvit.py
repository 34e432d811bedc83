"""U-ViT, its training step and its guided sampling with the arithmetic of the official code, for comparison.

The computation follows You et al. (2023) and Bao et al. (2023), in eager mode, on the weights of our network. Queries,
keys and values are cast one by one before attention; guidance calls the network twice; weights are averaged tensor by
tensor.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from dpt_ray.core.models.uvit import Block, UViT, sinusoidal_embedding

BETA_MIN, BETA_MAX = 0.1, 20.0


def published_forward(network: UViT, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
    """Predict the noise (B, C, H, W) from noisy images (B, C, H, W), times (B,) and labels (B,)."""
    patches = network.patch_embedding(x).flatten(2).transpose(1, 2)
    label_token = network.label_embedding(label).unsqueeze(1)
    time_token = sinusoidal_embedding(time, network.dim).unsqueeze(1)
    tokens = torch.cat((label_token, time_token, patches), dim=1) + network.positions
    skips = []
    for block in network.in_blocks:
        tokens = _block(block, tokens)
        skips.append(tokens)
    tokens = _block(network.mid_block, tokens)
    for merge, block in zip(network.merges, network.out_blocks, strict=True):
        tokens = _block(block, merge(torch.cat([tokens, skips.pop()], dim=-1)))
    pixels = network.to_pixels(network.norm(tokens))[:, 2:]
    side, patch = x.shape[2] // network.patch_size, network.patch_size
    image = pixels.reshape(len(x), side, side, patch, patch, x.shape[1]).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
    return network.final_conv(image)


def _block(block: torch.nn.Module, tokens: Tensor) -> Tensor:
    assert isinstance(block, Block)
    attention = block.attention
    batch, length, width = tokens.shape
    qkv = attention.qkv(block.attention_norm(tokens))
    qkv = qkv.reshape(batch, length, 3, attention.heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = qkv[0].float(), qkv[1].float(), qkv[2].float()
    attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, length, width)
    tokens = tokens + attention.projection(attended)
    return tokens + block.mlp(block.mlp_norm(tokens))


def published_steps(
    network: UViT,
    images: Tensor,
    labels: Tensor,
    *,
    batch: int,
    learning_rate: float,
    label_dropout: float,
    decay: float,
    mixed: bool = False,
) -> Callable[[], None]:
    """Return a function that makes one training step of `network`.

    Args:
        network: the network that is trained.
        images: uint8 (N, C, H, W), on the network's device.
        labels: (N,), on the network's device.
        batch: images in a step, drawn with replacement.
        learning_rate: learning rate of AdamW.
        label_dropout: probability that a label is dropped.
        decay: decay of the averaged weights in a step.
        mixed: compute the forward pass under bfloat16 autocast.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    average = copy.deepcopy(network)
    device = images.device

    def step() -> None:
        rows = torch.randint(len(images), (batch,), device=device)
        clean = images[rows].float() / 127.5 - 1
        dropped = torch.rand(batch, device=device) < label_dropout
        label = torch.where(dropped, network.null_label, labels[rows])
        time = torch.rand(batch, device=device)
        log_alpha = -0.25 * time**2 * (BETA_MAX - BETA_MIN) - 0.5 * time * BETA_MIN
        alpha = log_alpha.exp()[:, None, None, None]
        noise = torch.randn_like(clean)
        noisy = alpha * clean + (1 - alpha**2).sqrt() * noise
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            predicted = published_forward(network, noisy, 999 * time, label)
        loss = (predicted - noise).square().flatten(1).mean(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for kept, value in zip(average.parameters(), network.parameters(), strict=True):
                kept.data = decay * kept.data + (1 - decay) * value.data
        if not math.isfinite(loss.item()):
            raise ArithmeticError("the loss is not finite")

    return step


def published_denoiser(network: UViT, scale: float, mixed: bool = False) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return a denoiser with classifier-free guidance, which calls the network twice.

    Args:
        network: the network.
        scale: guidance scale s in conditional + s * (conditional - unconditional).
        mixed: compute the network under bfloat16 autocast.
    """

    def predict(state: Tensor, time: Tensor, label: Tensor) -> Tensor:
        with torch.autocast(state.device.type, torch.bfloat16, enabled=mixed):
            return published_forward(network, state, time, label)

    def denoise(x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        alpha = (1 + sigma**2).rsqrt()
        integral, slope = torch.log1p(sigma**2), BETA_MAX - BETA_MIN
        time = 2 * integral / (BETA_MIN + (BETA_MIN**2 + 2 * slope * integral).sqrt())
        state = (alpha[:, None, None, None] * x).float()
        with_label = predict(state, (999 * time).float(), label)
        without = predict(state, (999 * time).float(), torch.full_like(label, network.null_label))
        noise = with_label + scale * (with_label - without)
        return x - sigma[:, None, None, None] * noise.to(x.dtype)

    return denoise
