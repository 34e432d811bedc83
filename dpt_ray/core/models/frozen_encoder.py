"""Frozen encoders: vision networks whose features a probe classifies. Loaded through transformers."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dpt_ray.core.models.image_processor import PROCESSOR, PixelScale, pixel_scale
from dpt_ray.core.models.pretrained import check_weights, parse_config
from dpt_ray.core.pixels import normalise
from dpt_ray.core.state_mismatch import some
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.text import one_line

CONFIG, WEIGHTS = "config.json", "model.safetensors"

CLASS_TOKEN = ("vit_msn", "dinov2", "dinov2_with_registers", "vit", "deit")
"""Values of `model_type` in transformers of vision transformers whose feature is the class token of a block."""

BEFORE_NORM = frozenset({"vit_msn"})
"""Families whose feature is the class token before the final layer norm, as in MSN's released code. The feature of the
others in `CLASS_TOKEN` is the class token after it (Oquab et al. 2023 for DINOv2)."""

POOLED = (
    "dinov3_vit", "dinov3_convnext", "siglip_vision_model", "clip_vision_model", "convnext", "convnextv2", "resnet",
    "regnet", "bit", "efficientnet", "mobilenet_v1", "mobilenet_v2", "swin", "swinv2", "focalnet", "hiera", "levit",
    "poolformer", "pvt_v2", "beit", "data2vec-vision",
)  # fmt: skip
"""Families whose feature is what the library's model gives as its pooled output. A family without one has the mean of
its last map, or its class token."""

WITH_TEXT = {"siglip": "siglip_vision_model", "clip": "clip_vision_model"}
"""Families that encode images and texts -> the family of their image encoder."""

FAMILIES = (*CLASS_TOKEN, *POOLED, *WITH_TEXT)


class FrozenEncoder(nn.Module):
    """A vision network without gradients. Its features are class tokens or pooled outputs.

    Args:
        folder: a local folder with `config.json`, `model.safetensors` and, optionally, `preprocessor_config.json`,
            which says how pixels are scaled; without it they are normalised by ImageNet's channel statistics.
        crop: height and width in pixels of the centre crop that is encoded, a multiple of the patch size if there are
            patches. Position embeddings are interpolated to it.
        blocks: number of last blocks whose class tokens are concatenated; 1 for pooled outputs.
        where: name of the encoder in messages; the folder if None.

    Raises:
        UserError: transformers is missing; the folder holds no supported encoder; or `crop` or `blocks` does not fit
            the encoder.
    """

    def __init__(self, folder: str, *, crop: int, blocks: int = 1, where: str | None = None):
        super().__init__()
        location = where or folder
        self.scale = _scale(folder, location)
        self.model: Any = _load(folder, location).eval().requires_grad_(False)
        config: Any = self.model.config
        self.pooled = config.model_type not in CLASS_TOKEN
        if self.pooled and blocks != 1:
            raise UserError(f"has pooled features, not those of {blocks} blocks", where=location,
                            fix="set probe.blocks=1")  # fmt: skip
        if not self.pooled and blocks > config.num_hidden_layers:
            raise UserError(f"has {config.num_hidden_layers} blocks, not {blocks}", where=location, fix="lower blocks")
        patch = getattr(config, "patch_size", 1)
        if isinstance(patch, int) and patch > 0 and crop % patch:
            raise UserError(f"crop must be a multiple of its patch size {patch}: {crop}", where=location)
        self.crop, self.blocks = crop, blocks
        self.normalised = config.model_type not in BEFORE_NORM
        parameters = inspect.signature(self.model.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in parameters else {}
        # A configuration may match the weights and still fail in the forward pass, so one image is encoded now.
        try:
            features = self(torch.zeros(1, 3, crop, crop, dtype=torch.uint8))
            if features.ndim != 2 or len(features) != 1:
                raise ValueError(f"features of shape {tuple(features.shape)}")
        except Exception as error:  # transformers and torch raise many types
            raise UserError(f"its encoder fails to encode an image ({one_line(error)})", where=location) from None
        self.feature_size = features.shape[1]

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Encode uint8 RGB images (B, 3, H, W), H and W at least `crop`.

        Returns:
            Features (B, D) float32, or (B, blocks * D) of `blocks` class tokens; D is the width of the encoder.
        """
        device = next(self.model.parameters()).device
        pixels = normalise(_centre(images.to(device), self.crop), self.scale.mean, self.scale.std)
        if self.pooled:
            return _pooled(self.model(pixel_values=pixels, **self._options), self.model).float()
        hidden = self.model(pixel_values=pixels, output_hidden_states=True, **self._options).hidden_states
        tokens = [states[:, 0] for states in hidden[-self.blocks :]]
        if self.normalised:
            tokens = [self.model.layernorm(token) for token in tokens]
        return torch.cat(tokens, dim=1).float()


def _pooled(output: Any, model: Any) -> Tensor:
    """Return the pooled features (B, D) of a model's output."""
    pooled: Tensor | None = getattr(output, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1)
    last: Tensor = output.last_hidden_state
    if last.ndim == 4:
        return last.mean((2, 3))
    if hasattr(getattr(model, "embeddings", None), "cls_token"):
        return last[:, 0]
    raise ValueError("it gives no pooled output and has no class token")


def _scale(folder: str, where: str) -> PixelScale:
    file = Path(folder) / PROCESSOR
    try:
        return pixel_scale(parse_config(file.read_bytes())) if file.exists() else PixelScale()
    except (ValueError, OSError) as error:
        raise UserError(one_line(error), where=f"{where}/{PROCESSOR}") from None


@dataclass(frozen=True)
class _Described:
    """A folder's encoder: its family, its configuration, and prefixes of tensors of other parts of the file."""

    family: str
    options: JsonObject
    others: tuple[str, ...] = ()


def _described(given: JsonObject) -> _Described:
    """Return the image encoder that a `config.json` describes.

    Raises:
        ValueError: it describes none of `FAMILIES`.
    """
    family, vision = given.get("model_type"), given.get("vision_config")
    if isinstance(family, str) and family in WITH_TEXT and isinstance(vision, dict):
        others = ("text_model.", "text_projection.", "visual_projection.", "logit_")
        return _Described(WITH_TEXT[family], vision, others)
    if family not in FAMILIES:
        some_of_them = "vit_msn, dinov2, dinov3_vit, siglip, convnext and resnet"
        raise ValueError(
            f"model_type is {str(family)[:40]!r}; supported vision networks are {some_of_them} among others"
        )
    return _Described(family, given)


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
        described = _described(given)
        family, sizes = described.family, _sizes_of(AutoConfig, described.family)
        options = {name: value for name, value in described.options.items() if name in sizes and name != "model_type"}

        # A configuration object lists every block by name, so it is built after `check_weights` bounded their number.
        def build() -> nn.Module:
            return AutoModel.from_config(AutoConfig.for_model(family, **options), **_attention(family))

        check_weights(given, Path(folder) / WEIGHTS, build)
        config = AutoConfig.for_model(family, **options)
        model, loaded = AutoModel.from_pretrained(
            folder,
            config=config,
            **_attention(family),
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
    _check_loading(loaded, described, where)
    return model


def _attention(family: str) -> dict[str, str]:
    """Return the attention implementation that is fixed; families without one of the library's refuse the argument."""
    return {"attn_implementation": "sdpa"} if family in (*CLASS_TOKEN, *WITH_TEXT.values(), "dinov3_vit") else {}


def _sizes_of(auto_config: Any, family: str) -> set[str]:
    """Return the names of a family's settings, without those that choose code: attention, kernels, quantisation.

    Dropout probabilities are excluded, too: a frozen encoder drops nothing, and an invalid probability would make the
    constructor fail.
    """
    own = auto_config.for_model(family).to_dict()
    return {name for name in own if not name.startswith("_") and "drop" not in name} - {
        "attn_implementation", "experts_implementation", "use_kernels", "quantization_config", "dtype", "torch_dtype",
    }  # fmt: skip


def _check_loading(loaded: Mapping[str, Any], described: _Described, where: str) -> None:
    """Refuse weights with missing or surplus tensors, or tensors of other shapes, as the library reports them."""
    unused = _UNUSED if described.family in CLASS_TOKEN else ()
    missing = [name for name in loaded.get("missing_keys", ()) if not name.startswith(unused)]
    unexpected = [name for name in loaded.get("unexpected_keys", ()) if not name.startswith(described.others)]
    surplus = [name for name in unexpected if any(part in name for part in (".layer", ".blocks.", ".stages."))]
    shapes = [str(entry[0] if isinstance(entry, tuple) else entry) for entry in loaded.get("mismatched_keys", ())]
    for what, names in (("lack", missing), ("have surplus tensors:", surplus), ("have other shapes:", shapes)):
        if names:
            raise UserError(
                f"its weights do not match its config.json; they {what} {some(sorted(names))}",
                where=where,
                fix="copy the model's folder again, or give another one",
            )


_UNUSED = ("pooler.",)
"""Prefixes of tensors that no class token depends on; published weights may lack them."""


def _centre(images: Tensor, size: int) -> Tensor:
    top, left = ((side - size) // 2 for side in images.shape[2:])
    return images[:, :, top : top + size, left : left + size]
