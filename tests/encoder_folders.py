"""Small encoders with random weights, saved as the published ones are."""

from pathlib import Path

import torch
from transformers import Dinov2Config, Dinov2Model, ViTMSNConfig, ViTMSNModel

SHAPE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}


def save_msn(folder: Path, seed: int = 0) -> str:
    """Save a ViT-MSN for 8x8 images with patches of 4; return the folder."""
    torch.manual_seed(seed)
    ViTMSNModel(ViTMSNConfig(intermediate_size=32, **SHAPE)).save_pretrained(folder)
    return str(folder)


def save_dinov2(folder: Path) -> str:
    """Save a DINOv2 of the same shape; return the folder."""
    torch.manual_seed(1)
    Dinov2Model(Dinov2Config(**SHAPE)).save_pretrained(folder)
    return str(folder)
