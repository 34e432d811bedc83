"""Few labels on CIFAR-10 on one GPU, in chunks of a few minutes, without Ray and without a network.

    python infra/gpu/few_labels.py --data FOLDER --state FOLDER [--minutes 12.5] [--rehearse]

The first chunk trains a generator without labels; the next ones go on with label sets. `--state` holds everything that
a chunk needs, in files of at most 15 MiB. See docs/guide/cluster/gpu.md.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dpt_ray.benchmark.label_sets.label_sets_chunk import label_sets_table, run_chunk
from dpt_ray.benchmark.label_sets.label_sets_plan import full_plan, tiny_plan
from dpt_ray.benchmark.time_to_quality.command import CONFIGURATION, begin, chunk_options, print_or_refuse


def main() -> int:
    """Run a chunk and print the table; return the exit status."""
    options = chunk_options("Few labels on CIFAR-10 on one GPU, in chunks.").parse_args()
    return print_or_refuse(partial(run, options))


def run(options: argparse.Namespace) -> str:
    """Run a chunk; return the table.

    Raises:
        UserError: there is no GPU or no data, or the state is damaged.
    """
    begun = begin(options)
    plan = (tiny_plan if options.rehearse else full_plan)(str(CONFIGURATION))
    return label_sets_table(run_chunk(begun.run, begun.data, plan, begun.clock))


if __name__ == "__main__":
    sys.exit(main())
