"""Frozen encoders: vision transformers whose features a linear probe classifies. Loaded through transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dpt_ray.core.models.pretrained import check_weights, parse_config
from dpt_ray.core.pixels import normalise
from dpt_ray.core.state_mismatch import some
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's channel statistics, by which these encoders' inputs are normalised."""

CONFIG, WEIGHTS = "config.json", "model.safetensors"

FAMILIES = ("vit_msn", "dinov2", "dinov2_with_registers", "vit", "deit")
"""Supported values of `model_type` in transformers. Each is a vision transformer with a class token."""

BEFORE_NORM = frozenset({"vit_msn"})
"""Families whose feature is the class token before the final layer norm, as in MSN's released code. The other
families' feature is the class token after it (Oquab et al. 2023 for DINOv2)."""


class FrozenEncoder(nn.Module):
    """A vision transformer without gradients. Its features are class tokens.

    Args:
        folder: a local folder with `config.json` and `model.safetensors`.
        crop: height and width in pixels of the centre crop that is encoded, a multiple of the patch size. Position
            embeddings are interpolated to it.
        blocks: number of last blocks whose class tokens are concatenated.
        where: name of the encoder in messages; the folder if None.

    Raises:
        UserError: transformers is missing; the folder holds no supported encoder; or `crop` or `blocks` does not fit
            the encoder.
    """

    def __init__(self, folder: str, *, crop: int, blocks: int = 1, where: str | None = None):
        super().__init__()
        location = where or folder
        self.model: Any = _load(folder, location).eval().requires_grad_(False)
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
        # A configuration may match the weights and still fail in the forward pass, so one image is encoded now.
        try:
            features = self(torch.zeros(1, 3, crop, crop, dtype=torch.uint8))
            if features.shape != (1, self.feature_size):
                raise ValueError(f"features of shape {tuple(features.shape)}")
        except Exception as error:  # transformers and torch raise many types
            raise UserError(f"its encoder fails to encode an image ({one_line(error)})", where=location) from None

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Encode uint8 RGB images (B, 3, H, W), H and W at least `crop`.

        Returns:
            Features (B, blocks * D) float32, D the width of the encoder.
        """
        device = next(self.model.parameters()).device
        pixels = normalise(_centre(images.to(device), self.crop), MEAN, STD)
        with_position = {"interpolate_pos_encoding": True} if self.model.config.model_type == "vit_msn" else {}
        hidden = self.model(pixel_values=pixels, output_hidden_states=True, **with_position).hidden_states
        tokens = [states[:, 0] for states in hidden[-self.blocks :]]
        if self.normalised:
            tokens = [self.model.layernorm(token) for token in tokens]
        return torch.cat(tokens, dim=1).float()


def _load(folder: str, where: str) -> nn.Module:
    """Load the model in a local folder.

    Only sizes are taken from the configuration. The family is checked against `FAMILIES`; attention implementation
    and loader are fixed here. Every weight must come from the file, because the library initialises missing ones at
    random.
    """
    try:
        from transformers import AutoConfig, AutoModel
        from transformers.utils import logging
    except ImportError:
        raise UserError(
            "a linear probe needs the package transformers", where=where, fix="pip install 'dpt_ray[encoders]'"
        ) from None
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        given = parse_config((Path(folder) / CONFIG).read_bytes())
        family = given.get("model_type")
        if family not in FAMILIES:
            supported = ", ".join(FAMILIES)
            raise ValueError(f"model_type is {str(family)[:40]!r}; supported vision transformers: {supported}")
        sizes = _sizes_of(AutoConfig, family)
        options = {name: value for name, value in given.items() if name in sizes and name != "model_type"}

        # A configuration object lists every block by name, so it is built after `check_weights` bounded their number.
        def build() -> nn.Module:
            return AutoModel.from_config(AutoConfig.for_model(family, **options), attn_implementation="sdpa")

        check_weights(given, Path(folder) / WEIGHTS, build)
        config = AutoConfig.for_model(family, **options)
        model, loaded = AutoModel.from_pretrained(
            folder,
            config=config,
            attn_implementation="sdpa",
            dtype=torch.float32,
            use_safetensors=True,  # never a pickle
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers and safetensors raise many types for damaged folders
        raise UserError(
            f"is no encoder that can be loaded ({one_line(error)})",
            where=where,
            fix="give a folder with config.json and model.safetensors, or a name on huggingface.co",
        ) from None
    _check_loading(loaded, where)
    return model


def _sizes_of(auto_config: Any, family: str) -> set[str]:
    """Return the names of a family's settings, without those that choose code: attention, kernels, quantisation.

    Dropout probabilities are excluded, too: a frozen encoder drops nothing, and an invalid probability would make the
    constructor fail.
    """
    own = auto_config.for_model(family).to_dict()
    return {name for name in own if not name.startswith("_") and "drop" not in name} - {
        "attn_implementation", "experts_implementation", "use_kernels", "quantization_config", "dtype", "torch_dtype",
    }  # fmt: skip


def _check_loading(loaded: Mapping[str, Any], where: str) -> None:
    """Refuse weights with missing or surplus tensors, or tensors of other shapes, as the library reports them."""
    missing = [name for name in loaded.get("missing_keys", ()) if not name.startswith(_UNUSED)]
    surplus = [name for name in loaded.get("unexpected_keys", ()) if ".layer" in name or ".blocks." in name]
    shapes = [str(entry[0] if isinstance(entry, tuple) else entry) for entry in loaded.get("mismatched_keys", ())]
    for what, names in (("lack", missing), ("have surplus tensors:", surplus), ("have other shapes:", shapes)):
        if names:
            raise UserError(
                f"its weights do not match its config.json; they {what} {some(sorted(names))}",
                where=where,
                fix="copy the model's folder again, or give another one",
            )


_UNUSED = ("pooler.",)
"""Prefixes of tensors that no feature depends on; published weights may lack them."""


def _centre(images: Tensor, size: int) -> Tensor:
    top, left = ((side - size) // 2 for side in images.shape[2:])
    return images[:, :, top : top + size, left : left + size]
