"""Studies of the method on small data: many runs over seeds, as tables and JSON. The same command goes on."""

import argparse
import sys
from functools import partial
from typing import Any

from dpt_ray.config.load import check_overrides
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.experiments.study.algorithm_comparison import compare_algorithms, menu_table
from dpt_ray.experiments.study.confidence import compare_confidence, confidence_table
from dpt_ray.experiments.study.curve import MEASURES, curves_table, quality_curves
from dpt_ray.experiments.study.generators import VARIANTS, compare_generators, generators_table
from dpt_ray.experiments.study.sampler_pictures import sampler_pictures
from dpt_ray.experiments.study.stage3_gain import MIXINGS, gains_of_stage3, gains_table


def main() -> int:
    """Run the study that the command line names; return the exit status."""
    options = _parse()
    say = partial(print, file=sys.stderr, flush=True)
    common: Any = {"config": options.config, "root": options.root, "say": say}
    if options.command != "curve":
        common |= {"seeds": options.seeds, "processes": options.processes}
    try:
        check_overrides(getattr(options, "set", []))
        if options.command == "samplers":
            for name, picture in sampler_pictures(**common):
                stores.write_bytes(f"{options.output}/{name}.png", picture)
            return 0
        if options.command == "algorithms":
            figures: Any = compare_algorithms(per_class=options.per_class[0], **common)
            text = menu_table(figures)
        elif options.command == "curve":
            output = f"{options.output}/curve.json"
            figures, picture = quality_curves(
                settings=options.set,
                stages=options.stages,
                points=options.points,
                images=options.images,
                drawn_per_class=options.drawn_per_class,
                keep=lambda rows: stores.write_json(output, rows),
                **common,
            )
            if picture is not None:
                stores.write_bytes(f"{options.output}/curve.png", picture)
            text = curves_table(figures)
        elif options.command == "confidence":
            figures = compare_confidence(per_class=options.per_class, **common)
            text = confidence_table(figures)
        elif options.command == "generators":
            figures = compare_generators(variants=options.variants, **common)
            text = generators_table(figures)
        else:
            figures = gains_of_stage3(per_class=options.per_class, mixings=options.mixings, **common)
            text = "\n\n".join(f"On {images} images:\n\n{gains_table(figures, on)}" for on, images in _IMAGES.items())
        stores.write_json(f"{options.output}/{options.command}.json", figures)
        stores.write_bytes(f"{options.output}/{options.command}.md", (text + "\n").encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


_IMAGES = {"test": "held-out", "unlabelled": "unlabelled training"}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    algorithms = commands.add_parser("algorithms", help="stage 1 with every semi-supervised algorithm of the menu")
    mixing = commands.add_parser("mixing", help="stage 3 against stage 1, by labels a class and by mixing")
    confidence = commands.add_parser("confidence", help="calibration of pseudo-labels, and balanced ones")
    generators = commands.add_parser("generators", help="stage 2 by where its labels come from")
    curve = commands.add_parser("curve", help="how good stages 1 and 2 are on their way, in one run")
    samplers = commands.add_parser("samplers", help="a picture of every sampler's images, from few evaluations to many")
    several = ((algorithms, 3), (confidence, 3), (mixing, 5), (generators, 3), (samplers, 1))
    for command in (*(command for command, _ in several), curve):
        command.add_argument("--config", default="configs/digits.yaml", help="YAML settings that all runs refine")
        command.add_argument("--root", default="dpt_results/studies", help="folder or URL for the runs' artifacts")
        command.add_argument("--output", default="dpt_results/studies", help="folder or URL for .json and .md")
    for command, seeds in several:
        command.add_argument("--seeds", type=int, nargs="+", default=list(range(seeds)), help="seeds of the runs")
        command.add_argument("--processes", type=int, default=2, help="runs at the same time, on a CPU each")
    curve.add_argument("--set", metavar="a.b=c", action="append", default=[], help="override one setting")
    curve.add_argument("--stages", nargs="+", choices=list(MEASURES), default=list(MEASURES), help="which are trained")
    curve.add_argument("--points", type=int, default=20, help="how often it is looked at, at equal distances")
    curve.add_argument("--images", type=int, default=10_000, help="test images that are read at most")
    curve.add_argument("--drawn-per-class", type=int, default=100, help="pseudo images drawn for each distance")
    algorithms.add_argument("--per-class", type=int, nargs=1, default=[4], help="labelled images of each class")
    confidence.add_argument("--per-class", type=int, nargs="+", default=[1, 4], help="labelled images of each class")
    mixing.add_argument("--per-class", type=int, nargs="+", default=[1, 2, 4, 10], help="labelled images of each class")
    generators.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="labels")
    mixing.add_argument("--mixings", nargs="+", default=["official"], choices=list(MIXINGS), help="ways to mix")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
