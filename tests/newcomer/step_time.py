"""CPU time and page faults of a step of the recipe's classifier on CPUs: `python -m tests.newcomer.step_time`.

It trains in a thread, as the job's process does, with one thread of torch, with tensors contiguous and channels last in
turns. `--keep` keeps freed memory, as trainings do; without it glibc's allocator is as it is by default. The data are
random pixels, on which a step takes as long as on photographs.
"""

import argparse
import resource
import statistics
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.load import load_config
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.training.compute import keep_channels_last
from dpt_ray.core.training.freed_memory import freed_memory_kept, use_one_arena
from dpt_ray.core.training.from_settings import classifier_training, images_per_step
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.training.step_numbers import StepNumbers
from dpt_ray.core.training.update import StepSettings, update

CLASSES, SIDE = 10, 32
CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels last"


def random_rows(count: int) -> ImageBatch:
    """Return images of random pixels with random labels."""
    images = torch.randint(256, (count, 3, SIDE, SIDE), dtype=torch.uint8)
    return ImageBatch(images, torch.randint(CLASSES, (count,)), torch.arange(count), RowRandom(range(count)))


def new_training(config: ClassifierConfig, layout: str) -> TrainState:
    """Return a training before its first step."""
    state = classifier_training(config, channels=3, num_classes=CLASSES, num_unlabelled=1000, seed=0)
    if layout == CHANNELS_LAST:
        keep_channels_last(state)
    return state


def one_step(state: TrainState, config: ClassifierConfig, batches: Mapping[str, ImageBatch]) -> tuple[float, int]:
    """Do a step; return its CPU seconds and page faults."""
    numbers = StepNumbers.of_step(state, config.optimizer, images_per_step(config), config.images, stop=False)
    start, before = time.thread_time(), resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    update(state, state.model, batches, StepSettings(config.optimizer.gradient_clip), numbers)
    return time.thread_time() - start, resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def measure(steps: int, keep: bool) -> None:
    """Print the median time of a step in each layout."""
    torch.set_num_threads(1)
    config = load_config(None, ["preset=photos", "data.train=unread"]).stage1
    batches = {"labelled": random_rows(config.labelled_batch), "unlabelled": random_rows(config.unlabelled_batch)}
    states = {layout: new_training(config, layout) for layout in (CONTIGUOUS, CHANNELS_LAST)}
    found: dict[str, list[tuple[float, int]]] = {layout: [] for layout in states}
    context: AbstractContextManager[None] = freed_memory_kept() if keep else nullcontext()
    with context:
        for number in range(steps + 1):
            for layout, state in states.items():
                step = one_step(state, config, batches)
                if number > 0:  # the first one allocates what later ones find
                    found[layout].append(step)
    for layout, taken in found.items():
        seconds, faults = zip(*taken, strict=True)
        span = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(f"{layout}: {statistics.median(seconds):.2f} s ({span}), {statistics.median(faults):,.0f} page faults")


def main() -> None:
    """Measure in a thread of this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6, help="timed steps of each layout")
    parser.add_argument("--keep", action="store_true", help="keep freed memory")
    options = parser.parse_args()
    if options.keep:
        use_one_arena()
    thread = threading.Thread(target=measure, args=(options.steps, options.keep))
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
