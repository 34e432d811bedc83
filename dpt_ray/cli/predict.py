"""`dpt predict` and `dpt generate`: classify images and draw images with trained networks."""

import click

from dpt_ray.cli.model_place import model_place
from dpt_ray.cli.options import example, stage_option, together
from dpt_ray.cli.verbs import OneOf, Verb
from dpt_ray.distributed.job_log import tell

_compute = together(
    click.option("--device", metavar="DEVICE", help="cpu, cuda or cuda:1; by default a GPU if there is one."),
    click.option(
        "--processes",
        type=click.IntRange(min=1),
        default=1,
        help="Number of processes. Several run on Ray: on the cluster of RAY_ADDRESS, or on this machine.",
    ),
)


@click.command(
    "predict",
    cls=Verb,
    short_help="Classify new images: a CSV or Parquet table.",
    epilog=example("dpt predict digits scans/ --output scans.csv --top 3"),
)
@click.argument("model", metavar="MODEL")
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True)
@click.option("--output", metavar="URL", default="predictions.csv", help="Path of the table; ends in .csv or .parquet.")
@click.option("--top", type=click.IntRange(min=1), default=1, help="Classes in each row, the most probable first.")
@stage_option()
@_compute
def predict(
    model: str, images: tuple[str, ...], output: str, top: int, stage: str | None, device: str | None, processes: int
) -> None:
    """Classify images.

    MODEL is a run (its name, or <root>/runs/<name>), a finished training, a folder that dpt export wrote, or a
    classifier's *.onnx file. IMAGES are image files, folders, patterns in quotes, lists of paths (*.txt), or WebDataset
    shards (*.tar).

    The row of an image that cannot be read holds the reason and no class. After an interruption the same command
    resumes.
    """
    from dpt_ray.pipeline.predict_images import predict_images

    chosen = int(stage) if stage is not None else None
    tell(predict_images(model_place(model), images, output, top=top, stage=chosen, processes=processes, device=device))


@click.command(
    "generate",
    cls=Verb,
    short_help="Draw images of chosen classes as files.",
    epilog=example("dpt generate digits drawn --class 3 --count 20"),
)
@click.argument("model", metavar="MODEL")
@click.argument("output", metavar="FOLDER")
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME",
    help="Name or id of a class; may be repeated. Default: all classes.",
)
@click.option("--count", type=click.IntRange(min=1), default=10, help="Images of each class.")
@click.option("--format", "kind", type=OneOf(lambda: ("png", "jpeg")), default="png", help="Format of the files.")
@click.option("--guidance-scale", type=float, help="0: no guidance. Default: that of the run.")
@click.option("--seed", type=int, help="Seed of the images. Default: that of the run.")
@click.option("--sampler", metavar="NAME", help="As sampling.sampler. Default: that of the run.")
@click.option("--steps", type=click.IntRange(min=1), help="As sampling.steps. Default: that of the run.")
@_compute
def generate(model: str, output: str, classes: tuple[str, ...], count: int, kind: str, **options: object) -> None:
    """Draw images.

    MODEL is a run (its name, or <root>/runs/<name>), a finished training, or a folder that dpt export wrote. FOLDER
    receives a folder of images for each class, manifest.csv and grid.png. After an interruption the same command
    resumes.
    """
    from dpt_ray.pipeline.generate_images import generate_images

    tell(generate_images(model, output, classes=classes, per_class=count, kind=kind, **options))  # type: ignore[arg-type]
