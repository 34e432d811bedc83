"""Autoguidance, and guidance within an interval of noise levels: formulas, rows, and what they cost."""

import math

import pytest
import torch

from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.diffusion.guidance import autoguided, between, guided
from dpt_ray.core.diffusion.process_settings import (
    build_guidance,
    build_process,
    evaluations_per_image,
    reaches_guidance,
)
from dpt_ray.core.diffusion.samplers import SAMPLERS, sample, sampling_grid

NULL = 2
PROCESSES = ["variance_preserving", "discrete_variance_preserving", "edm", "flow_matching"]


def model(x, sigma, label):
    """A denoiser whose estimate depends on all that it is told."""
    return torch.tanh(x) + (label[:, None, None, None] + 1) / (1 + sigma[:, None, None, None])


def weak_model(x, sigma, label):
    return 0.5 * model(x, sigma, label)


class Counting:
    """A denoiser that remembers the rows of each call."""

    def __init__(self, denoiser):
        self.denoiser, self.rows = denoiser, []

    def __call__(self, x, sigma, label):
        self.rows.append(len(x))
        return self.denoiser(x, sigma, label)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(4, 3, 2, 2).double(), torch.tensor([0.1, 0.5, 2.0, 9.0]).double(), torch.tensor([0, 1, 0, 1])


def test_autoguidance_extrapolates_from_the_weak_model_in_every_channel(batch):
    actual = autoguided(model, weak_model, 0.6)(*batch)
    torch.testing.assert_close(actual, model(*batch) + 0.6 * (model(*batch) - weak_model(*batch)))
    torch.testing.assert_close(actual, 1.6 * model(*batch) - 0.6 * weak_model(*batch))  # the paper's w = 1.6
    assert autoguided(model, weak_model, 0.0) is model
    with pytest.raises(ValueError, match="guidance scale"):
        autoguided(model, weak_model, -1.0)


def test_rows_are_guided_where_their_level_is_in_the_interval(batch):
    inner, outer = Counting(guided(model, 0.7, NULL)), Counting(model)
    actual = between(inner, outer, 0.5, 2.0)(*batch)
    expected = torch.where(
        torch.tensor([0, 1, 1, 0])[:, None, None, None] > 0, guided(model, 0.7, NULL)(*batch), model(*batch)
    )
    assert torch.equal(actual, expected)
    assert (inner.rows, outer.rows) == ([2], [2])


@pytest.mark.parametrize(("level", "rows"), [(0.49, [4]), (0.5, [4, 4]), (2.0, [4, 4]), (2.1, [4])])
def test_a_batch_outside_of_the_interval_is_evaluated_without_doubled_rows(batch, level, rows):
    x, _, label = batch
    counting = Counting(model)
    denoiser = between(guided(counting, 0.7, NULL), counting, 0.5, 2.0)
    denoiser(x, torch.full((4,), level, dtype=torch.float64), label)
    assert counting.rows == rows


def test_guidances_compose(batch):
    inside = autoguided(guided(model, 0.4, NULL), weak_model, 1.0)
    denoiser = between(inside, model, 0.0, 1.0)
    expected = 2 * guided(model, 0.4, NULL)(*batch) - weak_model(*batch)
    torch.testing.assert_close(denoiser(*batch)[:2], expected[:2])
    assert torch.equal(denoiser(*batch)[2:], model(*batch)[2:])


@pytest.mark.parametrize("interval", [(1.0, 1.0), (2.0, 1.0), (-0.1, 1.0), (math.nan, 1.0)])
def test_impossible_intervals_are_refused(interval):
    with pytest.raises(ValueError, match="0 <= low < high"):
        between(model, model, *interval)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("process_name", PROCESSES)
@pytest.mark.parametrize(
    "settings",
    [
        {"guidance_scale": 0},
        {"guidance_scale": 0.4},
        {"guidance_scale": 0.4, "guidance_interval": (0.3, 5.0)},
        {"guidance_scale": 0, "guidance_interval": (0.3, 5.0)},
    ],
)
def test_evaluations_of_an_image_are_the_rows_that_the_network_sees(name, process_name, settings):
    if name == "dpm_solver_pp_fast" and process_name == "edm":
        return  # refused
    config = SamplingConfig(sampler=name, steps=11, **settings)
    process = build_process(GeneratorConfig(process=process_name))
    counting = Counting(model)
    noise = torch.randn(3, 1, 2, 2)
    sample(
        config.sampler,
        build_guidance(config, counting, NULL),
        noise,
        torch.tensor([0, 1, 0]),
        config.steps,
        process.sigma_min,
        process.sigma_max,
        process.schedule,
    )
    assert sum(counting.rows) == 3 * evaluations_per_image(config, process)
    assert set(counting.rows) <= {3, 6}


def test_an_interval_of_all_levels_changes_nothing_and_one_outside_means_no_guidance():
    noise, labels = torch.randn(2, 1, 2, 2), torch.tensor([0, 1])

    def images(**settings):
        return sample("heun", build_guidance(SamplingConfig(**settings), model, NULL), noise, labels, 6, 0.01, 20.0)

    assert torch.equal(images(guidance_interval=(0, 1000)), images())
    assert torch.equal(images(guidance_interval=(500, 1000)), images(guidance_scale=0))
    assert not torch.equal(images(), images(guidance_scale=0))


@pytest.mark.parametrize(
    ("interval", "reached"),
    [(None, True), ((0.3, 5), True), ((0, 0.001), False), ((80, 90), True), ((81, 90), False)],
)
def test_an_interval_without_any_level_of_the_process_is_noticed(interval, reached):
    process = build_process(GeneratorConfig(process="edm"))
    assert reaches_guidance(SamplingConfig(guidance_interval=interval), process) is reached


def test_cost_of_an_interval_by_hand():
    """Levels 4 > 2 > 1 > 0.5 and then 0: Heun evaluates all but the first twice; 2 and 1 are in the interval."""
    levels = SAMPLERS["heun"].evaluated([4.0, 2.0, 1.0, 0.5, 0.0])
    assert levels == [4.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5]
    process = build_process(GeneratorConfig(process="edm"))
    grid = sampling_grid("heun", 18, process.sigma_min, process.sigma_max)
    config = SamplingConfig(sampler="heun", steps=18, guidance_interval=(grid[9], grid[7]))
    assert evaluations_per_image(config, process) == 35 + 6
