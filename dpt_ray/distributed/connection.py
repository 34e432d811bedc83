"""Connects a process to Ray, and sets up Ray Data in it."""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.distributed import local_ray
from dpt_ray.distributed.address import join, named_address
from dpt_ray.distributed.lost_ray import outlive_raylet
from dpt_ray.distributed.shared_cluster import become_trial, share_cluster
from dpt_ray.distributed.temporary_space import check_temporary_space
from dpt_ray.errors import UserError
from dpt_ray.text import one_line


def join_cluster(runs: int) -> None:
    """Set up a process that Ray started for one of `runs` concurrent runs, which share the cluster equally."""
    become_trial()
    _set_environment(local=False)
    configure_data()
    share_cluster(runs)


def connect(config: ClusterConfig) -> None:
    """Connect to the cluster that RAY_ADDRESS names, or start a local Ray (`local_ray`).

    It does nothing if this process is connected already.

    Raises:
        UserError: the named cluster cannot be reached, no folder is usable for the files of a local Ray, or this
            version of Ray lacks internals that this package uses.
    """
    address = named_address()
    _set_environment(local=not address)
    import ray

    if ray.is_initialized():
        return
    check_ray_internals()
    from dpt_ray.distributed.ray_internals import unprinted_messages

    # Workers report errors as exceptions and progress through a board, so their logs would only repeat both.
    settings = {"logging_level": logging.ERROR, "log_to_driver": False}
    with _kept_signals(), unprinted_messages():
        if address:
            join(address, settings)
        else:
            check_temporary_space()
            local_ray.start_local_ray(num_cpus=config.local_cpus or os.cpu_count(), **settings)
    configure_data()


def is_connected() -> bool:
    """Whether this process is connected to a Ray."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Keep this process's handler of SIGTERM, if it has one: Ray's ends the process without leaving any context."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def check_ray_internals() -> None:
    """Check that this version of Ray has the internals that `ray_internals` uses.

    Raises:
        UserError: one of them is missing.
    """
    import ray

    try:
        from dpt_ray.distributed import ray_internals  # noqa: F401
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"Ray {ray.__version__} lacks an internal function that this package uses ({one_line(error)})",
            fix="install a version of Ray that this package names in its requirements",
        ) from error


_ENVIRONMENT = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # The interval in which Ray Train's controller polls its workers for reports and for the end of training.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # The longest time that Ray Train waits for the CPUs and GPUs of its workers before they are planned again.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    # The interval in which Ray Train looks for nodes that are about to be reclaimed.
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def _set_environment(*, local: bool) -> None:
    """Set the environment variables that Ray reads. Workers get them by inheritance or from Ray Train."""
    if local:
        local_ray.set_environment()
    outlive_raylet()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module="ray")


def configure_data() -> None:
    """Set up Ray Data in this process. Each process that builds a data set needs this."""
    # Without it Ray Data notices the end of a task one round of its loop later, 0.1 s in which the task's CPU idles.
    # Ray Data reads it at its first use.
    os.environ.setdefault("RAY_DATA_METADATA_PREFETCH_ON_THREAD", "0")
    from ray.data import DataContext

    from dpt_ray.distributed.scheduler_throttle import SchedulerThrottle

    # The filter stands here because Ray adds its own when it is imported. `ray_remote_args` is deprecated, and some
    # options in it have no parameter of their own yet.
    warnings.filterwarnings("ignore", message=".*will be removed in Ray 2.64")
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True  # rows are matched to requests by position
    context.target_max_block_size = None  # read tasks decide the size of blocks
    context.custom_execution_callback_classes = [SchedulerThrottle]
    for name in ("ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it also raises the errors that it logs
