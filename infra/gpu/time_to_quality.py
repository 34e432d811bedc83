"""CIFAR-10 with 40 labels on one GPU, in chunks of a few minutes, without Ray and without a network.

    python infra/gpu/time_to_quality.py --data FOLDER --state FOLDER [--stages a,b] [--minutes 12.5] [--rehearse]

Each call goes on where the last one stopped: `--state` holds everything that it needs. See docs/guide/cluster/gpu.md.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dpt_ray.benchmark.time_to_quality.chunk import STAGES, quality_table, run_chunk
from dpt_ray.benchmark.time_to_quality.command import CONFIGURATION, begin, chunk_options, print_or_refuse
from dpt_ray.benchmark.time_to_quality.plan import full_plan, tiny_plan
from dpt_ray.errors import UserError


def main() -> int:
    """Run a chunk and print the table; return the exit status."""
    parser = chunk_options("CIFAR-10 with 40 labels on one GPU, in chunks.")
    parser.add_argument("--stages", default=",".join(STAGES), help=f"of {', '.join(STAGES)}; all by default")
    return print_or_refuse(partial(run, parser.parse_args()))


def run(options: argparse.Namespace) -> str:
    """Run a chunk; return the table.

    Raises:
        UserError: a stage is unknown, there is no GPU or no data, or the state is damaged.
    """
    wanted = tuple(options.stages.split(","))
    if unknown := set(wanted) - set(STAGES):
        raise UserError(f"there is no stage {', '.join(sorted(unknown))}", fix=f"there are: {', '.join(STAGES)}")
    begun = begin(options)
    plan = (tiny_plan if options.rehearse else full_plan)(str(CONFIGURATION))
    return quality_table(run_chunk(begun.run, begun.data, plan, wanted, begun.clock))


if __name__ == "__main__":
    sys.exit(main())
