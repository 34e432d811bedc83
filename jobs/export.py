"""Bring networks into this package's form, and out of it."""

import argparse
import math
import sys
from typing import get_args

from dpt_ray.config.schema import GeneratorConfig, LatentsConfig
from dpt_ray.data import stores
from dpt_ray.data.uvit_checkpoint import import_uvit
from dpt_ray.errors import UserError


def main() -> int:
    """Run the command that the command line names; return the exit status."""
    options = _parse()
    try:
        content = import_uvit(options.file, heads=options.heads, process=options.process, latents=_latents(options))
        stores.write_bytes(options.output, content)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"generator: {options.output}")
    return 0


def _latents(options: argparse.Namespace) -> LatentsConfig | None:
    if options.autoencoder is None:
        return None
    return LatentsConfig(autoencoder=options.autoencoder, scale=options.scale)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    uvit = commands.add_parser("import-uvit", help="an official U-ViT checkpoint (a state dict) as our generator")
    uvit.add_argument("file", help="nnet.pth or nnet_ema.pth, any URL; must hold tensors alone")
    uvit.add_argument("--output", default="network.safetensors", help="file or URL to write")
    uvit.add_argument("--heads", type=int, help="attention heads; known for the published sizes")
    uvit.add_argument(
        "--process",
        default="variance_preserving",
        choices=get_args(GeneratorConfig.model_fields["process"].annotation),
        help="what it was trained with: U-ViT-L's is variance_preserving",
    )
    uvit.add_argument(
        "--autoencoder", help="of its latents: a folder, URL or name on the hub, as stage2.latents.autoencoder"
    )
    uvit.add_argument("--scale", type=_positive, help="of its latents; the autoencoder's own if not given")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
