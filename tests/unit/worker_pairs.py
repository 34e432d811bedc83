"""Processes that train together in a test."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from torch.multiprocessing import start_processes


def train_together(work: Callable[..., None], arguments: tuple[Any, ...], workers: int = 2) -> None:
    """Call `work(rank, *arguments)` in processes, and wait for them.

    They are forked from a server that has imported torch and what trains, which takes seconds.
    """
    multiprocessing.set_forkserver_preload(["dpt_ray.core.training.from_settings", "dpt_ray.data.loading.feed"])
    start_processes(work, arguments, workers, start_method="forkserver")


def leave(rank: int, folder: Path, workers: int = 2) -> NoReturn:
    """End the process of this rank, one of 2 by default, whose results are written.

    It skips the destructors of gloo, whose threads now and then abort a process that ends. The others may still read
    what this one sent, so all end once all are done; `start_processes` ends those whose partner fails.
    """
    (folder / f"{rank}.done").touch()
    while not all((folder / f"{other}.done").exists() for other in range(workers)):
        time.sleep(0.01)
    os._exit(0)
