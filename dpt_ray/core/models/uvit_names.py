"""Names of tensors in the official U-ViT checkpoints (github.com/baofff/U-ViT, and those of DPT), and ours.

    official                                    here
    patch_embed.proj.*                          patch_embedding.*
    label_emb.weight                            label_embedding.weight       (the last row is "no label")
    pos_embed                                   positions                    (label, time, patches)
    {in_blocks.I,mid_block,out_blocks.I}.
        norm1.*, norm2.*                        attention_norm.*, mlp_norm.*
        attn.qkv.weight, attn.proj.*            attention.qkv.weight, attention.projection.*
        mlp.fc1.*, mlp.fc2.*                    mlp.0.*, mlp.2.*
    out_blocks.I.skip_linear.*                  merges.I.*
    norm.*                                      norm.*
    decoder_pred.*                              to_pixels.*
    final_layer.*                               final_conv.*                 (not in U-ViT-H)

Only names differ: the orders of queries, keys, values, heads, tokens and pixels are the same.
"""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from dpt_ray.core.state_mismatch import some

_RULES = [
    (re.compile(pattern), ours)
    for pattern, ours in [
        (r"patch_embed\.proj\.(weight|bias)", r"patch_embedding.\1"),
        (r"label_emb\.weight", r"label_embedding.weight"),
        (r"pos_embed", r"positions"),
        (r"(in_blocks\.\d+|mid_block|out_blocks\.\d+)\.norm1\.(weight|bias)", r"\1.attention_norm.\2"),
        (r"(in_blocks\.\d+|mid_block|out_blocks\.\d+)\.norm2\.(weight|bias)", r"\1.mlp_norm.\2"),
        (r"(in_blocks\.\d+|mid_block|out_blocks\.\d+)\.attn\.qkv\.weight", r"\1.attention.qkv.weight"),
        (r"(in_blocks\.\d+|mid_block|out_blocks\.\d+)\.attn\.proj\.(weight|bias)", r"\1.attention.projection.\2"),
        (r"(in_blocks\.\d+|mid_block|out_blocks\.\d+)\.mlp\.fc1\.(weight|bias)", r"\1.mlp.0.\2"),
        (r"(in_blocks\.\d+|mid_block|out_blocks\.\d+)\.mlp\.fc2\.(weight|bias)", r"\1.mlp.2.\2"),
        (r"out_blocks\.(\d+)\.skip_linear\.(weight|bias)", r"merges.\1.\2"),
        (r"norm\.(weight|bias)", r"norm.\1"),
        (r"decoder_pred\.(weight|bias)", r"to_pixels.\1"),
        (r"final_layer\.(weight|bias)", r"final_conv.\1"),
    ]
]

PUBLISHED_HEADS = {512: 8, 768: 12, 1024: 16, 1152: 16}
"""Width -> attention heads of the sizes S, M, L and H; heads cannot be read off the weights."""

DISCRETE_WIDTHS = frozenset({1152})
"""Widths of the published networks trained with the discrete process (H). The others use the continuous one."""


def our_names(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same tensors under our names.

    Raises:
        ValueError: a name matches no row of the table.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, value in official.items():
        matches = [(match, ours) for pattern, ours in _RULES if (match := pattern.fullmatch(name))]
        if matches:
            match, ours = matches[0]
            renamed[match.expand(ours)] = value
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f"{some(unknown)} {'is' if len(unknown) == 1 else 'are'} in no class-conditional U-ViT")
    return renamed


def uvit_sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Infer `UViT`'s arguments from the shapes of weights under our names; all but `heads`.

    Raises:
        ValueError: a tensor that shows them is missing, or has another number of dimensions.
    """
    try:
        dim, in_channels, patch_size, _ = weights["patch_embedding.weight"].shape
        _, num_tokens, _ = weights["positions"].shape
        labels, _ = weights["label_embedding.weight"].shape
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing, so this is no class-conditional U-ViT") from None
    except ValueError:
        raise ValueError("the patch embedding, positions or label table do not have the shapes of a U-ViT") from None
    side = math.isqrt(max(num_tokens - 2, 0))
    if side**2 != num_tokens - 2 or side == 0:
        raise ValueError(f"{num_tokens} positions are not those of a label, a time and a square of patches")
    blocks = {name.split(".")[1] for name in weights if name.startswith("in_blocks.")}
    return {
        "image_size": side * patch_size,
        "patch_size": patch_size,
        "in_channels": in_channels,
        "dim": dim,
        "depth": 2 * len(blocks),
        "num_classes": labels - 1,
        "final_conv": "final_conv.weight" in weights,
    }
