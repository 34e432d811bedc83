"""Measure parts of the system against what else there is, in one run, in turns; prints a table and writes JSON."""

import argparse
import sys

from dpt_ray.benchmark.data_plane import PHOTOS, measure, tables
from dpt_ray.data import stores
from dpt_ray.errors import UserError


def main() -> int:
    """Run the benchmark that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    data = commands.add_parser("data", help="reading shards: images/s and memory")
    data.add_argument(
        "--shards", required=True, help=f"folder of shards, or '{PHOTOS}' for photographs made on the spot"
    )
    data.add_argument("--size", type=int, default=32, help="height and width that images are brought to, pixels")
    data.add_argument("--shuffle-window", type=int, default=16384, help="data.shuffle_window of our readers, images")
    data.add_argument("--rounds", type=int, default=5, help="timed rounds of each contestant")
    data.add_argument("--seconds", type=float, default=6.0, help="about how long a contestant's turn takes")
    data.add_argument("--cpus", type=int, default=2, help="CPUs for every contestant")
    data.add_argument("--store-mib", type=int, default=100, help="object store's limit in the memory run, MiB")
    data.add_argument("--output", default="dpt_results/benchmarks/data", help="where to write .json and .md, any URL")
    options = parser.parse_args()
    try:
        figures = measure(
            options.shards,
            image_size=options.size,
            shuffle_window=options.shuffle_window,
            rounds=options.rounds,
            seconds=options.seconds,
            cpus=options.cpus,
            store_mib=options.store_mib,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
        text = tables(figures)
        stores.write_json(f"{options.output}.json", figures)
        stores.write_bytes(f"{options.output}.md", (text + "\n").encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
