"""What the commands that run in chunks of a lease share: options, checks, and one line for an error."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError

from dpt_ray.benchmark.time_to_quality.cifar import Cifar, made_up_cifar, read_cifar
from dpt_ray.benchmark.time_to_quality.progress_record import Clock, Folder
from dpt_ray.benchmark.time_to_quality.training import Run
from dpt_ray.distributed.code_folder import use_private_code_folder
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

CONFIGURATION = Path(__file__).parents[3] / "configs" / "cifar10_minutes.yaml"
MADE_UP_IMAGES = 200


class Begun(NamedTuple):
    """A chunk that has begun: what all its stages share, CIFAR-10, and the time."""

    run: Run
    data: Cifar
    clock: Clock


def chunk_options(description: str) -> argparse.ArgumentParser:
    """Return the parser of the options that all such commands have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", help="folder with CIFAR-10's binary version")
    parser.add_argument("--state", required=True, help="folder that travels from chunk to chunk")
    parser.add_argument("--minutes", type=float, default=12.5, help="time of this chunk")
    parser.add_argument("--rehearse", action="store_true", help="made-up images and tiny networks, on the CPU")
    return parser


def begin(options: argparse.Namespace) -> Begun:
    """Begin a chunk.

    Raises:
        UserError: there is no GPU or no data.
    """
    if not options.rehearse and not torch.cuda.is_available():
        raise UserError("this machine has no GPU", fix="'--rehearse' runs the same code with tiny sizes on the CPU")
    if not options.rehearse and options.data is None:
        raise UserError("--data is missing", fix="give the folder with CIFAR-10's binary version")
    clock = Clock(60 * options.minutes)
    use_private_code_folder()
    device = "cpu" if options.rehearse else "cuda"
    data = made_up_cifar(MADE_UP_IMAGES, device) if options.rehearse else read_cifar(options.data, device)
    lines = partial(print, file=sys.stderr, flush=True)
    return Begun(Run(Folder(options.state), device, not options.rehearse, lines), data, clock)


def print_or_refuse(table: Callable[[], str]) -> int:
    """Print a table, or an error as one line; return the exit status."""
    try:
        print(table())
    except (UserError, ValueError, SafetensorError) as error:  # the last two: a damaged file of `--state`
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0
