"""Few labels on CIFAR-10 on one GPU, in chunks of a few minutes, without Ray and without a network.

    python infra/gpu/few_labels.py --data FOLDER --state FOLDER [--minutes 12.5] [--rehearse]

The first chunk trains a generator without labels; the next ones go on with label sets. `--state` holds everything that
a chunk needs, in files of at most 15 MiB. See docs/guide/cluster/gpu.md.
"""

# ruff: noqa: E402 - the path must be set before the imports, since the repository need not be installed
import argparse
import sys
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

import torch
from safetensors import SafetensorError

from dpt_ray.benchmark.label_sets.label_sets_chunk import label_sets_table, run_chunk
from dpt_ray.benchmark.label_sets.label_sets_plan import full_plan, tiny_plan
from dpt_ray.benchmark.time_to_quality.cifar import made_up_cifar, read_cifar
from dpt_ray.benchmark.time_to_quality.progress_record import Clock, Folder
from dpt_ray.benchmark.time_to_quality.training import Run
from dpt_ray.distributed.code_folder import use_private_code_folder
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

CONFIGURATION = REPOSITORY / "configs" / "cifar10_minutes.yaml"
MADE_UP_IMAGES = 200


def main() -> int:
    """Run a chunk and print the table; return the exit status."""
    parser = argparse.ArgumentParser(description="Few labels on CIFAR-10 on one GPU, in chunks.")
    parser.add_argument("--data", help="folder with CIFAR-10's binary version")
    parser.add_argument("--state", required=True, help="folder that travels from chunk to chunk")
    parser.add_argument("--minutes", type=float, default=12.5, help="time of this chunk")
    parser.add_argument("--rehearse", action="store_true", help="made-up images and a tiny network, on the CPU")
    options = parser.parse_args()
    try:
        return run(options)
    except (UserError, ValueError, SafetensorError) as error:  # the last two: a damaged file of `--state`
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    """Run a chunk; see `main`.

    Raises:
        UserError: there is no GPU or no data, or the state is damaged.
    """
    if not options.rehearse and not torch.cuda.is_available():
        raise UserError("this machine has no GPU", fix="'--rehearse' runs the same code with tiny sizes on the CPU")
    if not options.rehearse and options.data is None:
        raise UserError("--data is missing", fix="give the folder with CIFAR-10's binary version")
    clock = Clock(60 * options.minutes)
    use_private_code_folder()
    device = "cpu" if options.rehearse else "cuda"
    data = made_up_cifar(MADE_UP_IMAGES, device) if options.rehearse else read_cifar(options.data, device)
    plan = (tiny_plan if options.rehearse else full_plan)(str(CONFIGURATION))
    lines = partial(print, file=sys.stderr, flush=True)
    run_settings = Run(Folder(options.state), device, not options.rehearse, lines)
    print(label_sets_table(run_chunk(run_settings, data, plan, clock)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
