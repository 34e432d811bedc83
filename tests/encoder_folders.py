"""Small encoders with random weights, saved as the published ones are."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, Dinov2Config, Dinov2Model, ViTMSNConfig, ViTMSNModel

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


_STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
_EMBEDDED = {"embedding_size": 8, **_STAGES}
_TOKENS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
           "image_size": 32, "patch_size": 8}  # fmt: skip
_WINDOWS = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "image_size": 32, "patch_size": 4, "window_size": 4}

POOLED_SHAPES: dict[str, dict[str, Any]] = {
    "dinov3_vit": _TOKENS,
    "dinov3_convnext": _STAGES,
    "siglip_vision_model": _TOKENS,
    "clip_vision_model": _TOKENS,
    "convnext": _STAGES,
    "convnextv2": _STAGES,
    "resnet": _EMBEDDED,
    "regnet": {**_EMBEDDED, "groups_width": 8},
    "bit": {**_EMBEDDED, "num_groups": 4},
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320, "image_size": 32},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "swin": _WINDOWS,
    "swinv2": _WINDOWS,
    "focalnet": {"embed_dim": 8, "depths": [1, 1], "hidden_sizes": [8, 16], "focal_levels": [1, 1],
                 "focal_windows": [3, 3], "image_size": 32},
    "hiera": {"embed_dim": 8, "depths": [1, 1, 1, 1], "image_size": [32, 32]},
    "levit": {"image_size": 32, "hidden_sizes": [16, 32, 32], "num_attention_heads": [2, 2, 2], "key_dim": [8, 8, 8],
              "depths": [1, 1, 1], "kernel_size": 3, "stride": 2},
    "poolformer": {**_STAGES},
    "pvt_v2": {**_STAGES, "num_attention_heads": [1, 1, 2, 2], "image_size": 32},
    "beit": _TOKENS,
    "data2vec-vision": _TOKENS,
}  # fmt: skip
"""Family of transformers with pooled features -> settings of a small network of it for images of 32 pixels."""


def save_pooled(folder: Path, family: str) -> str:
    """Save a network of a family with pooled features; return the folder."""
    torch.manual_seed(2)
    model = AutoModel.from_config(AutoConfig.for_model(family, **POOLED_SHAPES[family]))
    for parameter in model.parameters():
        if parameter.ndim > 1:  # the library's initial weights let the signal of some families die out
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return str(folder)


def save_with_text(folder: Path, family: str) -> Any:
    """Save a network for images and texts; return it in evaluation mode."""
    torch.manual_seed(3)
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": 99}  # fmt: skip
    model = AutoModel.from_config(AutoConfig.for_model(family, vision_config=_TOKENS, text_config=text)).eval()
    model.save_pretrained(folder)
    return model
