"""Small autoencoders with random weights, saved by diffusers as the published ones are."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny


def save_kl(folder: Path, *, channels: int = 1, latent_channels: int = 4, seed: int = 0) -> str:
    """Save an AutoencoderKL that makes 4x4 latents of 8x8 images; return the folder."""
    torch.manual_seed(seed)
    AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=8,
    ).save_pretrained(folder)
    return str(folder)


def save_tiny(folder: Path, *, channels: int = 1, seed: int = 0) -> str:
    """Save an AutoencoderTiny with latents of the same shape; return the folder."""
    torch.manual_seed(seed)
    AutoencoderTiny(
        in_channels=channels,
        out_channels=channels,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=4,
    ).save_pretrained(folder)
    return str(folder)
