"""A training step, augmentation included, is one graph: no break, no copy from the host, the numbers of eager steps."""

import copy
from collections.abc import Callable

import pytest
import torch
from no_copies import NoCopies
from torch import Tensor, nn

from dpt_ray.config.classifier_section import AlgorithmConfig, ClassifierConfig, ClassifierModelConfig
from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.objective import Objective
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.training.from_settings import classifier_training, generator_training

ROWS, CLASSES, SIZE = 4, 3, 16
ALGORITHMS = ["adamatch", "fixmatch", "flexmatch", "freematch", "pseudo_label", "softmatch", "supervised"]
UVIT = GeneratorModelConfig(patch_size=4, dim=16, depth=2, heads=2)
DDPMPP = GeneratorModelConfig(name="ddpmpp", channels=8, multipliers=(1, 1), blocks=1, dropout=0.1)
GENERATORS = {
    "uvit": GeneratorConfig(model=UVIT),
    "edm with augmentation and dropout": GeneratorConfig(model=DDPMPP, process="edm", augmentation=0.5),
    "flow": GeneratorConfig(model=UVIT, process="flow_matching"),
    "discrete": GeneratorConfig(model=UVIT, process="discrete_variance_preserving"),
}
ALL = [*ALGORITHMS, *GENERATORS]
LIKE_FLEXMATCH = ["adamatch", "fixmatch", "freematch", "softmatch"]


def started(case: str) -> tuple[nn.Module, Objective, tuple[str, ...]]:
    if case in GENERATORS:
        state = generator_training(GENERATORS[case], image_size=SIZE, channels=3, num_classes=CLASSES, seed=0)
        return state.model, state.objective, ("images",)
    config = ClassifierConfig(model=ClassifierModelConfig(name="small_cnn"), algorithm=AlgorithmConfig(name=case))
    state = classifier_training(config, channels=3, num_classes=CLASSES, num_unlabelled=ROWS, seed=0)
    return state.model, state.objective, ("labelled", "unlabelled")


def stepper(model: nn.Module, objective: Objective, sources: tuple[str, ...]) -> Callable[..., list[Tensor]]:
    """Return a step from tensors to loss and metrics."""

    def step(images: Tensor, labels: Tensor, index: Tensor, seeds: Tensor) -> list[Tensor]:
        given = {
            name: ImageBatch(images, labels, index, RowRandom(seeds[number], 2)) for number, name in enumerate(sources)
        }
        loss, metrics = objective(model, given)
        return [loss, *metrics.values()]

    return step


def inputs(number: int, device: str = "cpu") -> list[Tensor]:
    random = torch.Generator().manual_seed(number)
    images = torch.randint(256, (ROWS, 3, SIZE, SIZE), generator=random).to(torch.uint8)
    seeds = 100 * number + torch.arange(2 * ROWS // 2).view(2, ROWS // 2)
    return [tensor.to(device) for tensor in (images, torch.arange(ROWS) % CLASSES, torch.arange(ROWS), seeds)]


@pytest.mark.parametrize(
    "case",
    # Seven seconds each; FlexMatch's step has all that theirs have.
    [pytest.param(case, marks=pytest.mark.slow) if case in LIKE_FLEXMATCH else case for case in ALL],
)
def test_a_step_is_one_graph_with_the_numbers_of_eager_steps(case):
    torch.compiler.reset()  # else all cases count as compilations of one function
    model, objective, sources = started(case)
    stepper(model, objective, sources)(*inputs(9))  # the first step counts what a checkpoint remembers
    eager = stepper(copy.deepcopy(model), copy.deepcopy(objective), sources)
    traced = torch.compile(stepper(model, objective, sources), fullgraph=True, backend="aot_eager")
    for number in range(2):  # the statistics of one step enter the next one
        for got, expected in zip(traced(*inputs(number)), eager(*inputs(number)), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ALL)
def test_a_step_copies_nothing_from_the_host(case):
    model, objective, sources = started(case)
    stepper(model, objective, sources)(*inputs(0))
    step = stepper(model.to("meta"), objective.to("meta"), sources)
    step(*inputs(0, "meta"))  # a device keeps constants from its first step
    given = inputs(1, "meta")
    with NoCopies():
        step(*given)
