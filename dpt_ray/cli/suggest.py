"""`dpt suggest-labels`: which images to label."""

import click

from dpt_ray.cli.options import CLUSTER, config_option, example, set_option
from dpt_ray.cli.verbs import Verb
from dpt_ray.config.shipped import find_config
from dpt_ray.distributed.job_log import tell


@click.command(
    "suggest-labels",
    cls=Verb,
    short_help="Choose the images whose labels teach most.",
    epilog=example(
        "dpt suggest-labels --config my.yaml --count 40 --output first",
        "dpt suggest-labels --config labelled.yaml --count 40 --uncertain 20",
        notes=CLUSTER,
    ),
)
@config_option("Settings: a YAML file, or the name of a shipped configuration.", show_default="the embedded digits")
@set_option("Override one setting; may be repeated.")
@click.option("--count", type=click.IntRange(min=1), required=True, help="Images to label.")
@click.option(
    "--uncertain",
    type=click.IntRange(min=0),
    default=0,
    help="How many of them are those whose class is least certain from the labels so far; the others cover the images.",
)
@click.option("--output", metavar="URL", default="labels", help="Folder for labels.csv and labels.html.")
def suggest_labels(config: str | None, overrides: tuple[str, ...], count: int, uncertain: int, output: str) -> None:
    """Choose the images whose labels teach most: a page with pictures, and a table to fill in.

    The features are those of stage1.probe.encoder. The images cover them: each is typical of a group. The table begins
    with the images that count as labelled: those of labels.file, or all with a label if labels.fraction is 1.
    """
    file = find_config(config) if config else None
    from dpt_ray.pipeline.suggest_labels import suggest_labels as suggest

    tell(suggest(file, overrides, count, uncertain, output))
