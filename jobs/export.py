"""Bring networks into this package's form, and out of it."""

import argparse
import math
import sys
from collections.abc import Callable
from typing import get_args

from dpt_ray.config.schema import GeneratorConfig, LatentsConfig
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError


def main() -> int:
    """Run the command that the command line names; return the exit status."""
    options = _parse()
    run: Callable[[argparse.Namespace], str] = options.run
    try:
        print(run(options))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _import_uvit(options: argparse.Namespace) -> str:
    described = {"heads": options.heads, "process": options.process, "latents": _latents(options)}
    if not options.output.endswith(".safetensors"):
        from dpt_ray.pipeline.export import export_uvit

        return f"generator: {export_uvit(options.file, options.output, **described)}"
    from dpt_ray.networks.uvit_checkpoint import import_uvit

    stores.write_bytes(options.output, import_uvit(options.file, **described))
    return f"generator: {options.output}"


def _export_generator(options: argparse.Namespace) -> str:
    from dpt_ray.pipeline.export import export_generator

    return f"generator: {export_generator(options.source, options.destination)}"


def _export_classifier(options: argparse.Namespace) -> str:
    from dpt_ray.pipeline.export import export_classifier

    folder = export_classifier(options.source, options.destination, stage=options.stage, onnx=options.onnx)
    return f"classifier: {folder}"


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
    uvit.set_defaults(run=_import_uvit)
    uvit.add_argument("file", help="nnet.pth or nnet_ema.pth, any URL; must hold tensors alone")
    uvit.add_argument(
        "--output",
        default="network.safetensors",
        help="what to write, any URL: a file that ends in .safetensors, or a new folder, which also holds a model card "
        "and the autoencoder",
    )
    uvit.add_argument("--heads", type=int, help="attention heads; known for the published sizes")
    uvit.add_argument(
        "--process",
        choices=get_args(GeneratorConfig.model_fields["process"].annotation),
        help="what it was trained with; by default as published: discrete_variance_preserving for U-ViT-H, "
        "variance_preserving for the smaller ones",
    )
    uvit.add_argument(
        "--autoencoder", help="of its latents: a folder, URL or name on the hub, as stage2.latents.autoencoder"
    )
    uvit.add_argument("--scale", type=_positive, help="of its latents; the autoencoder's own if not given")
    generator = commands.add_parser("generator", help="a run's generator as a folder for dpt_ray.load_generator")
    generator.set_defaults(run=_export_generator)
    classifier = commands.add_parser("classifier", help="a run's classifier as a folder for dpt_ray.load_classifier")
    classifier.set_defaults(run=_export_classifier)
    for command in (generator, classifier):
        command.add_argument("source", metavar="RUN", help="URL of <root>/runs/<name>, or of one finished training")
        command.add_argument("destination", metavar="DEST", help="new folder, any URL")
    classifier.add_argument("--stage", type=int, default=3, choices=(1, 3), help="which of a run's classifiers")
    classifier.add_argument("--onnx", action="store_true", help="also write model.onnx (pip install 'dpt_ray[onnx]')")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
