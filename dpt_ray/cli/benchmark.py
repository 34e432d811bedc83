"""`dpt benchmark`: measure speed and memory."""

import inspect
import sys
from functools import partial
from pkgutil import resolve_name
from typing import Any

import click

from dpt_ray.cli.options import Decorator, example, together
from dpt_ray.cli.verbs import OneOf, Verbs
from dpt_ray.distributed.job_log import tell

MEASURES = {
    "data": ("data_plane:measure_reading", "data_plane:reading_tables"),
    "train classifier": ("training_speed:measure_classifier", "training_speed:classifier_table"),
    "train generator": ("generator_speed:measure_generator", "generator_figures:generator_table"),
    "sample": ("generator_speed:measure_sampling", "generator_figures:generator_table"),
    "augment": ("augmentation_speed:measure_augmentation", "augmentation_speed:augmentation_table"),
    "probe": ("probe_speed:measure_probe", "probe_speed:probe_table"),
    "metrics": ("metrics_speed:measure_metrics", "metrics_speed:metrics_table"),
    "scale": ("scale:measure_scale", "scale_table:scale_table"),
}
"""Maps a measurement to two functions of `dpt_ray.benchmark`: one measures, its parameters are options of the command
line; one renders a table of the figures."""


@click.group("benchmark", cls=Verbs, short_help="Measure speed and memory against other implementations.")
def benchmark() -> None:
    """Measure parts of the system against other implementations.

    All contestants are measured in one run, in turns. A table is printed and written with the figures as JSON.
    """


def _measure(measured: str, output: str | None, threads: int | None = None, **options: Any) -> None:
    """Run the measurement `measured` of `MEASURES`, write its figures and table, and print the table."""
    from dpt_ray.benchmark.contest import limited_threads
    from dpt_ray.data.storage import stores
    from dpt_ray.data.storage.json_records import plain_json

    measure, table = (resolve_name(f"dpt_ray.benchmark.{name}") for name in MEASURES[measured])
    wanted = inspect.signature(measure).parameters.keys() & options.keys()
    say = partial(print, file=sys.stderr, flush=True)
    with limited_threads(threads):
        figures = measure(say=say, **{name: options[name] for name in wanted})
    text = table(figures)
    output = output or f"dpt_results/benchmarks/{measured.split()[0]}"
    stores.write_json(f"{output}.json", plain_json(figures))
    stores.write_bytes(f"{output}.md", (text + "\n").encode())
    tell(text)


def _one_of(option: str, *names: str, about: str) -> Decorator:
    return click.option(option, type=OneOf(lambda: names), default=names[0], help=about)


def _contest(rounds: int, seconds: float | None) -> Decorator:
    options = [
        click.option("--output", metavar="URL", help="Path of the .json and .md files, without extension."),
        click.option("--rounds", type=int, default=rounds, help="Timed rounds for each contestant."),
    ]
    if seconds is not None:
        options.append(
            click.option("--seconds", type=float, default=seconds, help="Approximate length of a turn, seconds.")
        )
    return together(*options)


# One thread by default: on a shared core, threads that synchronise lose far more than the core's share.
_threads = click.option("--threads", type=int, default=1, help="CPU threads of every contestant.")
_device = _one_of("--device", "cpu", "cuda", about="Device of our implementation.")
_computing = together(
    _threads,
    _device,
    _one_of("--precision", "float32", "bfloat16", about="Precision of our implementation."),
    click.option("--compile", "compiled", is_flag=True, help="Compile the network."),
    _one_of("--size", "small", "uvit_l2", "uvit_h2", about="Generator: size of the U-ViT."),
    click.option("--batch", type=int, default=32, help="Generator: images in a batch."),
)


@benchmark.command("data", epilog=example("dpt benchmark data --shards photos --size 256"))
@_contest(rounds=5, seconds=6.0)
@click.option(
    "--shards",
    metavar="URL",
    required=True,
    help="Folder of shards, or 'photos' for crops of scikit-learn's photographs.",
)
@click.option(
    "--size", "image_size", type=int, default=32, help="Height and width to which images are resized, pixels."
)
@click.option("--shuffle-window", type=int, default=16384, help="data.shuffle_window of our readers, images.")
@click.option("--cpus", type=int, default=2, help="CPUs for every contestant.")
@click.option("--store-mib", type=int, default=100, help="Limit of the object store in the memory run, MiB.")
def data(**options: Any) -> None:
    """Measure reading of shards: images/s and memory."""
    _measure("data", **options)


@benchmark.command("train", epilog=example("dpt benchmark train --stage generator --device cuda --precision bfloat16"))
@_contest(rounds=3, seconds=30.0)
@_one_of("--stage", "classifier", "generator", about="Which network trains.")
@_one_of("--model", "wide_resnet", "small_cnn", about="Classifier: WRN-28-2, or small.")
@click.option("--channels-last", is_flag=True, help="Classifier: keep both networks channels last.")
@click.option(
    "--ray-steps", type=int, default=0, help="Generator: steps of a training under Ray Train, to measure Ray's share."
)
@_computing
def train(stage: str, **options: Any) -> None:
    """Measure a training step against an ordinary torch loop."""
    _measure(f"train {stage}", **options)


@benchmark.command("sample", epilog=example("dpt benchmark sample --rounds 3 --seconds 8"))
@_contest(rounds=3, seconds=30.0)
@click.option("--guidance-scale", type=float, default=0.4, help="s in the paper's convention.")
@click.option("--steps", type=int, default=10, help="Intervals of DPM-Solver++(2M).")
@_computing
def sample(**options: Any) -> None:
    """Measure guided sampling against the published implementation."""
    _measure("sample", **options)


@benchmark.command("augment", epilog=example("dpt benchmark augment --rounds 5 --seconds 2"))
@_contest(rounds=5, seconds=3.0)
@_threads
def augment(**options: Any) -> None:
    """Measure strong views against Pillow and kornia."""
    _measure("augment", **options)


@benchmark.command("probe", epilog=example("dpt benchmark probe --decay 2"))
@_contest(rounds=3, seconds=None)
@_threads
@click.option("--rows", type=int, default=20_000, help="Images in the fit.")
@click.option("--features", type=int, default=384, help="Features of each image.")
@click.option("--classes", type=int, default=200, help="Classes.")
@click.option("--decay", type=float, default=1.0, help="a in the spectrum k^-a of the features' covariance.")
@_device
def probe(**options: Any) -> None:
    """Measure the linear probe's fit against scikit-learn."""
    _measure("probe", **options)


@benchmark.command("metrics", epilog=example("dpt benchmark metrics --threads 2"))
@_contest(rounds=3, seconds=30.0)
@_threads
@click.option("--rows", type=int, default=10_000, help="Real images, and pseudo images, that are compared.")
@click.option("--features", type=int, default=768, help="Features of each of them.")
@click.option("--images", type=int, default=128, help="Images that features are computed from.")
@click.option("--size", "image_size", type=int, default=256, help="Height and width of these, pixels.")
@click.option("--batch", type=int, default=16, help="Images that the network reads together.")
@_device
def metrics(**options: Any) -> None:
    """Measure metrics of pseudo images: time, memory, features."""
    _measure("metrics", **options)


class _Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them, each as in 1e7 or 10000000."""

    name = "NUMBERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers of a text."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
            if not all(number >= 1 and number.is_integer() for number in numbers):
                raise ValueError
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no list of whole numbers such as 1e5,1e6", param, ctx)
        return tuple(map(int, numbers))


@benchmark.command("scale", epilog=example("dpt benchmark scale --images 1e5,1e6 --classes 1000"))
@click.option("--output", metavar="URL", help="Path of the .json and .md files, without extension.")
@click.option("--images", type=_Numbers(), default="1e5,1e6", help="Numbers of images.")
@click.option("--classes", type=_Numbers(), default="10,1000", help="Numbers of classes.")
@click.option("--steps", multiple=True, metavar="WORD", help="Measure steps with this word in their names alone.")
@click.option("--per-shard", type=click.IntRange(1), default=1000, help="Images of a shard.")
@click.option("--folder", metavar="FOLDER", help="Local folder that keeps synthetic data and results for another call.")
@click.option("--again", is_flag=True, help="Measure what the folder has results of, too.")
@click.option(
    "--most-worked", type=float, default=1e7, help="With more images, results of workers are drawn at random."
)
@click.option("--most-seconds", type=float, default=300.0, help="Leave out a step that would take longer.")
@click.option("--most-mib", type=float, default=8192.0, help="Leave out a step that would need more memory.")
def scale(**options: Any) -> None:
    """Measure the driver at up to 1e8 images, without pixels."""
    _measure("scale", **options)


@benchmark.command(
    "gpu", epilog=example("dpt benchmark gpu", "dpt benchmark gpu --write-baseline", "dpt benchmark gpu --rehearse")
)
@click.option("--output", metavar="URL", help="Path of the .json and .md files, without extension.")
@click.option("--baseline", metavar="URL", help="The card's baseline; by default its file in docs/results/baselines.")
@click.option("--write-baseline", is_flag=True, help="Store the figures as the card's baseline.")
@click.option("--rehearse", is_flag=True, help="Run the same code with tiny sizes on the CPU.")
@click.option("--threads", type=int, default=4, help="CPU threads.")
def gpu(**options: Any) -> None:
    """Measure a GPU in four minutes, beside its baseline.

    The exit status is 1 if a figure is more than 5 % worse than the baseline's, or is missing.
    """
    from dpt_ray.cli.benchmark_gpu import measure_card

    if measure_card(**options):
        click.get_current_context().exit(1)
