"""Measure parts of the system against what else there is, in one run, in turns; prints a table and writes JSON."""

import argparse
import inspect
import sys
from importlib import import_module
from typing import Any

from dpt_ray.benchmark.contest import limited_threads
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

MEASURES = {
    "data": ("data_plane", "measure_reading", "reading_tables"),
    "train classifier": ("training", "measure_classifier", "classifier_table"),
    "train generator": ("generator", "measure_generator", "generator_table"),
    "sample": ("generator", "measure_sampling", "generator_table"),
    "augment": ("augmentation", "measure_augmentation", "augmentation_table"),
    "probe": ("probe", "measure_probe", "probe_table"),
}
"""What is measured -> a module of `dpt_ray.benchmark`, its function whose parameters are options of the command line,
and what makes a table of the figures."""


def main() -> int:
    """Run the benchmark that the command line names; return the exit status."""
    options = _parse()
    stage = getattr(options, "stage", None)
    module_name, measure, table = MEASURES[f"{options.command} {stage}" if stage else options.command]
    try:
        module = import_module(f"dpt_ray.benchmark.{module_name}")
        with limited_threads(getattr(options, "threads", None)):
            figures = _call(getattr(module, measure), options)
        text = getattr(module, table)(figures)
        output = options.output or f"dpt_results/benchmarks/{options.command}"
        stores.write_json(f"{output}.json", figures)
        stores.write_bytes(f"{output}.md", (text + "\n").encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


def _call(measure: Any, options: argparse.Namespace) -> dict[str, Any]:
    wanted = inspect.signature(measure).parameters
    return measure(say=_say, **{name: getattr(options, name) for name in wanted if name != "say"})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, rounds: int, seconds: float | None, about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about)
        added.add_argument("--output", help="where to write .json and .md, any URL without its ending")
        added.add_argument("--rounds", type=int, default=rounds, help="timed rounds of each contestant")
        if seconds is not None:
            added.add_argument("--seconds", type=float, default=seconds, help="about how long a turn takes")
        if name != "data":  # threads in step lose far more than their share where a core is not theirs alone
            added.add_argument("--threads", type=int, default=1, help="CPU threads of every contestant")
        return added

    data = command("data", 5, 6.0, "reading shards: images/s and memory")
    data.add_argument("--shards", required=True, help="folder of shards, or 'photos' for photographs made on the spot")
    data.add_argument(
        "--size", dest="image_size", type=int, default=32, help="height and width that images are brought to, pixels"
    )
    data.add_argument("--shuffle-window", type=int, default=16384, help="data.shuffle_window of our readers, images")
    data.add_argument("--cpus", type=int, default=2, help="CPUs for every contestant")
    data.add_argument("--store-mib", type=int, default=100, help="object store's limit in the memory run, MiB")

    train = command("train", 3, 30.0, "a training step against an ordinary torch loop")
    train.add_argument(
        "--stage", choices=["classifier", "generator"], default="classifier", help="which network trains"
    )
    train.add_argument(
        "--model", choices=["wide_resnet", "small_cnn"], default="wide_resnet", help="classifier: WRN-28-2, or small"
    )
    train.add_argument("--channels-last", action="store_true", help="classifier: keep both networks channels last")
    train.add_argument(
        "--ray-steps", type=int, default=0, help="generator: steps of a training under Ray Train, to tell Ray's share"
    )

    sampling = command("sample", 3, 30.0, "guided sampling against the published form")
    sampling.add_argument("--guidance-scale", type=float, default=0.4, help="s in the paper's convention")
    sampling.add_argument("--steps", type=int, default=10, help="intervals of DPM-Solver++(2M)")
    for computing in (train, sampling):
        computing.add_argument(
            "--precision", choices=["float32", "bfloat16"], default="float32", help="what ours computes in"
        )
        computing.add_argument("--compile", dest="compiled", action="store_true", help="compile the network")
        computing.add_argument(
            "--size", choices=["small", "uvit_l2", "uvit_h2"], default="small", help="generator: which U-ViT"
        )
        computing.add_argument("--batch", type=int, default=32, help="generator: images together")

    command("augment", 5, 3.0, "strong views against Pillow and kornia")

    probe = command("probe", 3, None, "the linear probe's fit against scikit-learn")
    probe.add_argument("--rows", type=int, default=20_000, help="images that are fitted")
    probe.add_argument("--features", type=int, default=384, help="features of each")
    probe.add_argument("--classes", type=int, default=200, help="classes")
    probe.add_argument("--decay", type=float, default=1.0, help="a in the spectrum k^-a of the features' covariance")
    for computing in (train, sampling, probe):
        computing.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where ours computes")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
