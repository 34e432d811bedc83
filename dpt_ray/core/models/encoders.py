"""Frozen encoders: vision transformers whose features a linear probe classifies. Loaded through transformers."""

from typing import Any

import torch
from torch import Tensor, nn

from dpt_ray.core.semi_supervised.augmentation import normalise
from dpt_ray.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's channel statistics, by which these encoders' inputs are normalised."""

BEFORE_NORM = frozenset({"vit_msn"})
"""Families whose feature is taken before the final layer norm: MSN's authors classify that (their released code);
the others' feature is the class token of the output, after it (Oquab et al. 2023 for DINOv2)."""


class FrozenEncoder(nn.Module):
    """Class tokens of a vision transformer, without gradients.

    Args:
        location: a local folder with `config.json` and `model.safetensors`, or a name on the Hugging Face hub.
        crop: height and width of the centre that is encoded; position embeddings are interpolated to it.
        blocks: concatenate the class tokens after so many last blocks.

    Raises:
        UserError: transformers is missing, or there is no such encoder, or it is no vision transformer.
    """

    def __init__(self, location: str, *, crop: int, blocks: int = 1):
        super().__init__()
        self.model: Any = _load(location).eval().requires_grad_(False)
        config: Any = self.model.config
        if not hasattr(self.model, "layernorm") or not hasattr(config, "hidden_size"):
            raise UserError(f"holds a {config.model_type}, not a vision transformer such as ViT-MSN", where=location)
        if blocks > config.num_hidden_layers:
            raise UserError(f"has {config.num_hidden_layers} blocks, not {blocks}", where=location, fix="lower blocks")
        if crop % config.patch_size:
            raise UserError(f"crop must be a multiple of its patch size {config.patch_size}: {crop}", where=location)
        self.crop, self.blocks = crop, blocks
        self.normalised = config.model_type not in BEFORE_NORM
        self.feature_size = blocks * config.hidden_size

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Return features, float32 (B, blocks D), of uint8 RGB images (B, 3, H, W), H and W at least `crop`."""
        device = next(self.model.parameters()).device
        pixels = normalise(_centre(images.to(device), self.crop), MEAN, STD)
        with_position = {"interpolate_pos_encoding": True} if self.model.config.model_type == "vit_msn" else {}
        hidden = self.model(pixel_values=pixels, output_hidden_states=True, **with_position).hidden_states
        tokens = [states[:, 0] for states in hidden[-self.blocks :]]
        if self.normalised:
            tokens = [self.model.layernorm(token) for token in tokens]
        return torch.cat(tokens, dim=1).float()


def _load(location: str) -> nn.Module:
    try:
        from transformers import AutoModel
        from transformers.utils import logging
    except ImportError:
        raise UserError(
            "a linear probe needs the package transformers", where=location, fix="pip install 'dpt_ray[encoders]'"
        ) from None
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:  # safetensors only, and no code that comes with the weights
        return AutoModel.from_pretrained(location, use_safetensors=True, trust_remote_code=False, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"is no encoder that can be loaded ({reason})",
            where=location,
            fix="give a folder with config.json and model.safetensors, or a name on huggingface.co",
        ) from None


def _centre(images: Tensor, size: int) -> Tensor:
    top, left = ((side - size) // 2 for side in images.shape[2:])
    return images[:, :, top : top + size, left : left + size]
