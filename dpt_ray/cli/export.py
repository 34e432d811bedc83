"""`dpt export`: export trained networks as folders, and import U-ViT weights."""

from collections.abc import Sequence
from typing import get_args

import click

from dpt_ray.cli.model_place import model_place
from dpt_ray.cli.options import example, stage_option, together
from dpt_ray.cli.verbs import OneOf, PositiveNumber, Verbs
from dpt_ray.distributed.job_log import tell


def _processes() -> Sequence[str]:
    from dpt_ray.config.generator_section import GeneratorConfig

    return get_args(GeneratorConfig.model_fields["process"].annotation)


_places = together(click.argument("run", metavar="RUN"), click.argument("destination", metavar="DEST"))
"""The arguments of an export: the run and the new folder."""


@click.group("export", cls=Verbs, short_help="Export trained networks; import U-ViT weights.")
def export() -> None:
    """Export trained networks as folders, and import published U-ViT weights."""


@export.command(
    "import-uvit",
    short_help="Import official U-ViT weights as a generator.",
    epilog=example("dpt export import-uvit nnet_ema.pth --autoencoder stabilityai/sd-vae-ft-ema"),
)
@click.argument("file")
@click.option(
    "--output",
    metavar="URL",
    default="network.safetensors",
    help="A file that ends in .safetensors, or a new folder, which also receives a model card and the autoencoder.",
)
@click.option("--heads", type=int, help="Number of attention heads; by default that of the published size.")
@click.option(
    "--process",
    type=OneOf(_processes),
    metavar="PROCESS",
    help="Noise process of the training; by default as published: discrete_variance_preserving for U-ViT-H, "
    "variance_preserving for the smaller networks.",
)
@click.option(
    "--autoencoder",
    metavar="URL|NAME",
    help="Autoencoder of the latents: a folder, URL or name on the hub, as stage2.latents.autoencoder.",
)
@click.option("--scale", type=PositiveNumber(), help="Scale of the latents; by default that of the autoencoder.")
def import_uvit(
    file: str, output: str, heads: int | None, process: str | None, autoencoder: str | None, scale: float | None
) -> None:
    """Import an official U-ViT checkpoint (a state dict) as a generator of this package.

    FILE is the path or URL of nnet.pth or nnet_ema.pth. It must hold only tensors.
    """
    from dpt_ray.config.generator_section import LatentsConfig

    latents = None if autoencoder is None else LatentsConfig(autoencoder=autoencoder, scale=scale)
    if output.endswith(".safetensors"):
        from dpt_ray.data.storage import stores
        from dpt_ray.networks.uvit_checkpoint import import_uvit

        stores.write_bytes(output, import_uvit(file, heads=heads, process=process, latents=latents))
    else:
        from dpt_ray.pipeline.export_run import export_uvit

        output = export_uvit(file, output, heads=heads, process=process, latents=latents)
    tell(f"generator: {output}")


@export.command(
    "generator",
    short_help="Write a run's generator as a folder.",
    epilog=example("dpt export generator digits digits-generator"),
)
@_places
def generator(run: str, destination: str) -> None:
    """Write a run's generator as a folder for dpt_ray.load_generator.

    RUN is a run (its name, or <root>/runs/<name>) or a finished training. DEST is the path or URL of a new folder.
    """
    from dpt_ray.pipeline.export_run import export_generator

    tell(f"generator: {export_generator(model_place(run), destination)}")


@export.command(
    "push",
    short_help="Upload an exported network to the Hugging Face hub.",
    epilog=example("dpt export push digits-classifier owner/digits-classifier"),
)
@click.argument("folder")
@click.argument("name")
@click.option("--public", is_flag=True, help="Make a new repository public; otherwise it is private.")
def push(folder: str, name: str, public: bool) -> None:
    """Upload an exported network to the Hugging Face hub as one commit (pip install 'dpt_ray[hub]').

    FOLDER is the path or URL of a folder that dpt export wrote. NAME is owner/name. The token is that of HF_TOKEN or of
    hf auth login.
    """
    from dpt_ray.export.hub import push_to_hub

    revision = push_to_hub(folder, name, private=not public)
    tell(f'uploaded: dpt_ray.load("{name}", revision="{revision}")')


@export.command(
    "classifier",
    short_help="Write a run's classifier as a folder.",
    epilog=example("dpt export classifier digits digits-classifier --onnx"),
)
@_places
@stage_option()
@click.option("--onnx", is_flag=True, help="Also write model.onnx (pip install 'dpt_ray[onnx]').")
def classifier(run: str, destination: str, stage: str | None, onnx: bool) -> None:
    """Write a run's classifier as a folder for dpt_ray.load_classifier.

    RUN is a run (its name, or <root>/runs/<name>) or a finished training. DEST is the path or URL of a new folder.
    """
    from dpt_ray.pipeline.best_stage import best_stage
    from dpt_ray.pipeline.export_run import export_classifier

    place = model_place(run)
    chosen, reason = best_stage(place) if stage is None else (int(stage), "")
    tell(f"classifier{reason}: {export_classifier(place, destination, stage=chosen, onnx=onnx)}")
