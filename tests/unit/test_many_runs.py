"""A study that is interrupted ends its runs in progress, and begins no other one."""

import os
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path

import pytest

from dpt_ray.experiments.many_runs import _ended_on_error


def begin_and_wait(pipe: str, number: int) -> None:
    with Path(pipe).open("w") as told:
        told.write(f"{number}\n")
    threading.Event().wait()


def begin_four_and_fail(pipe: str, error: type[BaseException], futures: list[Future[None]]) -> None:
    """Raise the error when the first of four runs, which never end, has begun."""
    os.mkfifo(pipe)
    with _ended_on_error(ProcessPoolExecutor(1, get_context("spawn"))) as pool:
        futures += [pool.submit(begin_and_wait, pipe, number) for number in range(4)]
        with Path(pipe).open() as told:
            assert told.readline() == "0\n"
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_after_an_error_nothing_runs_on(tmp_path, error):
    futures: list[Future[None]] = []
    with pytest.raises(error):
        begin_four_and_fail(str(tmp_path / "begun"), error, futures)
    assert active_children() == []
    assert futures[-1].cancelled()


def test_without_an_error_every_run_ends():
    with _ended_on_error(ProcessPoolExecutor(1, get_context("spawn"))) as pool:
        futures = [pool.submit(abs, number) for number in (-1, -2)]
    assert [future.result() for future in futures] == [1, 2]
