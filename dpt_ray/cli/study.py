"""`dpt study`: studies of the method on small data."""

import sys
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any

import click

from dpt_ray.cli.options import Decorator, config_option, example, set_option, together
from dpt_ray.cli.verbs import OneOf, Values, Verbs
from dpt_ray.config.shipped import find_config
from dpt_ray.distributed.job_log import tell
from dpt_ray.experiments.study.choices import CHOICES, FEATURES, HEADS, MEASURES, MIXINGS, VARIANTS


@click.group("study", cls=Verbs, short_help="Compare ways of training over seeds, on small data.")
def study() -> None:
    """Study the method on small data: many runs over seeds, as tables and JSON. The same command goes on."""


_places = together(
    config_option("Settings that all runs refine: a YAML file or a shipped configuration.", default="digits"),
    click.option("--root", metavar="URL", default="dpt_results/studies", help="Folder for the runs' artifacts."),
    click.option("--output", metavar="URL", default="dpt_results/studies", help="Folder for .json and .md."),
)


def _runs(seeds: int) -> Decorator:
    return together(
        _places,
        click.option("--seeds", cls=Values, type=int, default=tuple(range(seeds)), help="Seeds of the runs."),
        click.option("--processes", type=int, default=2, help="Runs at the same time, on a CPU each."),
    )


def _per_class(*default: int) -> Decorator:
    about = "Labelled images of each class."
    return click.option("--per-class", cls=Values, type=int, default=default, help=about)


def _named(option: str, names: Iterable[str], about: str, default: Iterable[str] | None = None) -> Decorator:
    """Return an option that takes some of the names; all of them by default."""
    known = list(names)
    chosen = known if default is None else list(default)
    return click.option(option, cls=Values, type=OneOf(lambda: known), metavar="NAME...", default=chosen, help=about)


def _listed(what: str, names: Iterable[str]) -> str:
    return "\n".join(["\b", f"{what}:", *(f"  {name}" for name in names)])


def _study(*options: Decorator, short_help: str, epilog: str) -> Decorator:
    """Return what makes a command of a study's function, which gets `config` as a file, and `say`, for its messages."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(config: str, **given: Any) -> None:
            function(config=find_config(config), say=partial(print, file=sys.stderr, flush=True), **given)

        return study.command(function.__name__.replace("_", "-"), short_help=short_help, epilog=epilog)(
            together(*options)(call)
        )

    return add


def _finish(output: str, figures: Any, text: str) -> None:
    """Write a study's figures and its table, and print the table."""
    from dpt_ray.data.storage import stores
    from dpt_ray.data.storage.json_records import plain_json

    stores.write_json(f"{output}.json", plain_json(figures))
    stores.write_bytes(f"{output}.md", (text + "\n").encode())
    tell(text)


@_study(
    _runs(seeds=3),
    click.option("--per-class", type=int, default=4, help="Labelled images of each class."),
    short_help="Stage 1 with every semi-supervised algorithm.",
    epilog=example("dpt study algorithms --seeds 0 1 2"),
)
def algorithms(output: str, **options: Any) -> None:
    """Compare stage 1 with every semi-supervised algorithm of the menu."""
    from dpt_ray.experiments.study.algorithm_comparison import compare_algorithms, menu_table

    figures = compare_algorithms(**options)
    _finish(f"{output}/algorithms", figures, menu_table(figures))


@_study(
    _runs(seeds=5),
    _per_class(1, 2, 4, 10),
    _named("--mixings", MIXINGS, "Ways to mix.", ["official"]),
    _named("--heads", HEADS, "Heads of a probe; that of --config if not given.", []),
    short_help="Stage 3 against stage 1, by labels and mixing.",
    epilog=example(
        'dpt study mixing --per-class 1 2 --mixings official "quarter real"', notes=_listed("Mixings", MIXINGS)
    ),
)
def mixing(output: str, **options: Any) -> None:
    """Compare stage 3 with stage 1, by labels a class, by the mixing of pseudo images, and by the head of a probe."""
    from dpt_ray.experiments.study.stage3_gain import gains_of_stage3, gains_table

    figures = gains_of_stage3(**options)
    judged = {"test": "held-out", "unlabelled": "unlabelled training"}
    text = "\n\n".join(f"On {images} images:\n\n{gains_table(figures, on)}" for on, images in judged.items())
    _finish(f"{output}/mixing", figures, text)


@_study(
    _runs(seeds=3),
    _per_class(1, 4),
    short_help="Calibration of pseudo-labels, and balanced ones.",
    epilog=example("dpt study confidence --seeds 0 1"),
)
def confidence(output: str, **options: Any) -> None:
    """Measure the calibration of pseudo-labels, and balanced ones."""
    from dpt_ray.experiments.study.confidence import compare_confidence, confidence_table

    figures = compare_confidence(**options)
    _finish(f"{output}/confidence", figures, confidence_table(figures))


@_study(
    _runs(seeds=3),
    _named("--variants", VARIANTS, "Where labels come from; all if not given."),
    short_help="Stage 2 by where its labels come from.",
    epilog=example('dpt study generators --variants "no labels" "true labels"', notes=_listed("Variants", VARIANTS)),
)
def generators(output: str, **options: Any) -> None:
    """Compare stage 2 by where its labels come from."""
    from dpt_ray.experiments.study.generators import compare_generators, generators_table

    figures = compare_generators(**options)
    _finish(f"{output}/generators", figures, generators_table(figures))


@study.command(
    "few-labels",
    short_help="Heads of a probe, by labels and by who chooses them.",
    epilog=example("dpt study few-labels --per-class 1 2", notes=_listed("Choices", CHOICES)),
)
@click.option("--output", metavar="URL", default="dpt_results/studies", help="Folder for .json and .md.")
@click.option("--seeds", cls=Values, type=int, default=tuple(range(10)), help="Seeds of the choices of images.")
@_per_class(1, 2, 4, 10)
@_named("--features", FEATURES, "Features of the digits.")
@_named("--choices", CHOICES, "Who chooses the labelled images.")
@_named("--heads", HEADS, "Heads; the last is compared with the first.")
@click.option("--self-training", is_flag=True, help="Fit logistic regression to the classes that each head gives, too.")
@click.option(
    "--class-ratio",
    type=click.FloatRange(min=1),
    default=1.0,
    help="Keep fewer images of each further class: the first has this many times those of the last.",
)
@config_option("Settings whose data and stage1.probe.encoder give the features, in place of the digits.")
@set_option("Override one setting of --config; may be repeated.")
def few_labels(
    output: str, config: str | None, overrides: tuple[str, ...], features: tuple[str, ...], **options: Any
) -> None:
    """Compare the heads of a probe on the digits, or on the data of --config, all of which need labels.

    The digits need no Ray. Their encoder needs the package of EfficientNet-Lite0's weights.
    """
    from dpt_ray.experiments.study.few_labels_job import report_few_labels, study_few_labels

    say = partial(print, file=sys.stderr, flush=True)
    place = None if config is None else find_config(config)
    figures = study_few_labels(output, place, overrides, features, say=say, **options)
    _finish(f"{output}/few_labels", figures, report_few_labels(figures))


@_study(
    _runs(seeds=5),
    set_option("Override one setting; may be repeated."),
    _per_class(1, 2, 4),
    _named("--heads", HEADS, "Heads for few labels.", ["logistic", "propagation"]),
    click.option("--most-images", type=int, default=10_000, help="Training images that probes use at most."),
    short_help="Features of stage 0 against pixels.",
    epilog=example("dpt study own-encoder --config digits_encoder"),
)
def own_encoder(output: str, overrides: tuple[str, ...], **options: Any) -> None:
    """Compare features of stage 0 with pixels and with an untrained encoder, by probes on few and on all labels."""
    from dpt_ray.config.load import check_overrides
    from dpt_ray.experiments.study.encoder_comparison import compare_own_encoder, encoders_table

    check_overrides(overrides)
    figures = compare_own_encoder(settings=overrides, **options)
    _finish(f"{output}/own_encoder", figures, encoders_table(figures))


@_study(
    _places,
    set_option("Override one setting; may be repeated."),
    _named("--stages", MEASURES, "Which are trained."),
    click.option("--points", type=int, default=20, help="How often it is looked at, at equal distances."),
    click.option("--images", type=int, default=10_000, help="Test images that are read at most."),
    click.option("--drawn-per-class", type=int, default=100, help="Pseudo images drawn for each distance."),
    short_help="How good stages 1 and 2 are on their way.",
    epilog=example("dpt study curve --stages stage1 --points 10"),
)
def curve(output: str, overrides: tuple[str, ...], **options: Any) -> None:
    """Show how good stages 1 and 2 are on their way, in one run."""
    from dpt_ray.config.load import check_overrides
    from dpt_ray.data.storage import stores
    from dpt_ray.data.storage.json_records import plain_json
    from dpt_ray.experiments.study.curve import CurvePoint, curves_table, quality_curves

    def keep(points: list[CurvePoint]) -> None:
        stores.write_json(f"{output}/curve.json", plain_json(points))

    check_overrides(overrides)
    figures, picture = quality_curves(settings=overrides, keep=keep, **options)
    if picture is not None:
        stores.write_bytes(f"{output}/curve.png", picture)
    _finish(f"{output}/curve", figures, curves_table(figures))


@_study(
    _runs(seeds=1),
    short_help="A picture of every sampler's images.",
    epilog=example("dpt study samplers --output pictures"),
)
def samplers(output: str, **options: Any) -> None:
    """Draw a picture of every sampler's images, from few evaluations to many."""
    from dpt_ray.data.storage import stores
    from dpt_ray.experiments.study.sampler_pictures import sampler_pictures

    for name, picture in sampler_pictures(**options):
        stores.write_bytes(f"{output}/{name}.png", picture)
