"""Diffusion against closed forms: for a Gaussian target the denoiser and the ODE's solution are known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.diffusion.denoising_objective import DiffusionObjective
from dpt_ray.core.diffusion.discrete_schedule import DiscreteVariancePreserving
from dpt_ray.core.diffusion.edm_augmentation import Augmentation
from dpt_ray.core.diffusion.flow_matching import FlowMatching
from dpt_ray.core.diffusion.grids import karras_sigmas, log_snr_sigmas, singlestep_orders
from dpt_ray.core.diffusion.guidance import guided
from dpt_ray.core.diffusion.processes import EdmPreconditioning, VariancePreserving
from dpt_ray.core.diffusion.samplers import SAMPLERS, num_evaluations, sample, sample_dpm_solver_pp_2m, sampling_grid
from dpt_ray.core.models.ddpmpp import DdpmPlusPlus
from dpt_ray.core.models.uvit import UViT
from dpt_ray.core.pixels import from_uint8, to_uint8
from dpt_ray.core.row_random import RowRandom

PROCESSES = [VariancePreserving(), DiscreteVariancePreserving(), EdmPreconditioning(), FlowMatching()]
TIMES = VariancePreserving()  # for samplers whose grid is uniform in time
MEANS = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)  # of the "images" of labels 0, 1, 2
STD = 0.4  # of each pixel
UNDENOISED = {"dpm_solver_fast", "dpm_solver_pp_fast"}
HALF_PIXEL = 1 / 255  # half of a step of 8-bit pixels, in [-1, 1]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def images_shape(values):
    return values[:, None, None, None]


def gaussian_denoiser(x, sigma, label):
    """E[clean | x] when the clean pixels of class k are N(MEANS[k], STD^2)."""
    mean = images_shape(MEANS[label])
    return mean + images_shape(STD**2 / (STD**2 + sigma**2)) * (x - mean)


def gaussian_ode(x, sigma_from, sigma_to, label):
    """Where the probability-flow ODE takes x: the distance to the mean shrinks as the marginal's std does."""
    mean = images_shape(MEANS[label])
    return mean + math.sqrt((STD**2 + sigma_to**2) / (STD**2 + sigma_from**2)) * (x - mean)


def tiny_network():
    model = UViT(image_size=8, patch_size=4, in_channels=2, dim=16, depth=2, heads=2, num_classes=3)
    for parameter in model.parameters():  # large enough for differences to show
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


# --- Samplers ---


def exact(noise, labels, sigmas):
    """The limit of many steps: the ODE's solution at sigma_min, denoised where the grid goes on to 0.

    Solvers that stop at sigma_min start and end in the variance-preserving state, x / sqrt(1 + sigma^2).
    """
    sigma_max = sigmas[0]
    if sigmas[-1] == 0:
        level = sigmas[-2]
        x = gaussian_ode(sigma_max * noise, sigma_max, level, labels)
        return gaussian_denoiser(x, torch.full((len(x),), level, dtype=torch.float64), labels)
    x = gaussian_ode(math.hypot(1, sigma_max) * noise, sigma_max, sigmas[-1], labels)
    return x / math.hypot(1, sigmas[-1])


def solve_error(solve, sigmas):
    """Largest distance from the exact solution."""
    labels = torch.arange(3).repeat(4)
    noise = torch.randn(12, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (solve(gaussian_denoiser, noise, labels, sigmas) - exact(noise, labels, sigmas)).abs().max().item()


def sampler_error(name, steps):
    # Evenly spaced times are far apart in lambda near t = 0, where their error takes very many steps to show its order.
    sigma_min = 0.1 if SAMPLERS[name].sigmas is None else 0.01
    return solve_error(SAMPLERS[name].solve, sampling_grid(name, steps, sigma_min, 20.0, TIMES))


@pytest.mark.parametrize(
    ("name", "order", "largest_error", "steps"),
    [
        ("euler", 1, 0.1, (64, 128, 256, 512)),
        ("heun", 2, HALF_PIXEL, (64, 128, 256, 512)),
        ("dpm_solver_pp_2m", 2, HALF_PIXEL, (64, 128, 256, 512)),
        ("dpm_solver_pp_2m_karras", 2, HALF_PIXEL, (64, 128, 256, 512)),
        # Each doubles the number of third-order steps, with one of second order last: 17, 34, 68, 136.
        ("dpm_solver_fast", 3, HALF_PIXEL, (50, 101, 203, 407)),
        ("dpm_solver_pp_fast", 3, HALF_PIXEL, (50, 101, 203, 407)),
    ],
)
def test_sampler_converges_at_its_order(name, order, largest_error, steps):
    errors = [sampler_error(name, count) for count in steps]
    assert errors[0] < largest_error
    measured = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert measured[-1] == pytest.approx(order, abs=0.15)
    assert measured == pytest.approx([order] * 3, abs=0.5)


def test_dpm_solver_pp_2m_is_second_order_on_a_ragged_grid():
    """Intervals of alternating length tell the ratio of lengths in its update from a constant 1/2."""

    def error(pairs):
        lengths = torch.tensor([1.0, 3.0] * pairs, dtype=torch.float64)
        fractions = torch.cat([torch.zeros(1), lengths.cumsum(0) / lengths.sum()])
        sigmas = [*(20.0 * (0.01 / 20.0) ** fractions).tolist(), 0.0]
        return solve_error(sample_dpm_solver_pp_2m, sigmas)

    assert math.log2(error(128) / error(256)) == pytest.approx(2, abs=0.15)


def test_dpm_solver_pp_2m_uses_the_midpoint_of_an_estimate_linear_in_lambda():
    """A step by hand: with clean = lambda = -log(sigma), from 2 to 1/2 the estimate is that at sigma 1, which is 0."""
    states = []

    def linear(x, sigma, label):
        states.append(x.item())
        return -images_shape(sigma).log()

    sample_dpm_solver_pp_2m(linear, torch.ones(1, 1, 1, 1), torch.zeros(1), [4.0, 2.0, 0.5, 0.0])
    after_first = 2.0 + 0.5 * -math.log(4)  # half of the state, half of the estimate at sigma 4
    assert states == pytest.approx([4.0, after_first, after_first / 4])


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_have_the_target_distribution(name):
    labels = torch.arange(3).repeat_interleave(2000)
    images = sample(name, gaussian_denoiser, torch.randn(6000, 1, 2, 2), labels, 64, 0.002, 80.0, TIMES)
    for label in range(3):
        pixels = images[labels == label]
        assert pixels.mean().item() == pytest.approx(MEANS[label].item(), abs=0.03)
        assert pixels.std().item() == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_number_of_evaluations_is_as_documented(name, steps):
    calls = []

    def counting(x, sigma, label):
        calls.append(sigma.unique().item())
        return gaussian_denoiser(x, sigma, label)

    sample(name, counting, torch.randn(2, 1, 2, 2), torch.zeros(2, dtype=torch.long), steps, 0.01, 10.0, TIMES)
    assert len(calls) == num_evaluations(name, steps) == (2 * steps - 1 if name == "heun" else steps)
    grid = sampling_grid(name, steps, 0.01, 10.0, TIMES)
    assert calls == SAMPLERS[name].evaluated(grid)
    assert calls == sorted(calls, reverse=True)
    assert len(grid) == steps + 1
    assert grid[0] == pytest.approx(10.0)
    assert grid[-1] == (pytest.approx(0.01) if name in UNDENOISED else 0)
    assert name in UNDENOISED or steps == 1 or grid[-2] == pytest.approx(0.01)


def test_edm_uses_35_evaluations_for_18_steps():
    assert num_evaluations("heun", 18) == 35


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_perfectly_known_image_is_returned(name):
    clean = torch.rand(2, 1, 2, 2)
    noise = torch.randn(2, 1, 2, 2)
    images = sample(name, lambda x, sigma, label: clean.double(), noise, torch.zeros(2), 5, 0.002, 80.0, TIMES)
    assert images.dtype == torch.float32
    if name in UNDENOISED:  # the noise of the last level is left, and the state is scaled
        clean = (clean + 0.002 * (math.hypot(1, 80) * noise - clean) / 80) / math.hypot(1, 0.002)
        torch.testing.assert_close(images, clean)
    else:
        assert torch.equal(images, clean)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("process", PROCESSES)
def test_an_image_does_not_depend_on_its_batch(name, process):
    denoiser = guided(process.denoiser(tiny_network()), 0.7, null_label=3)
    labels = torch.tensor([0, 1, 2, 0, 1])

    def run(rows):
        noise = RowRandom([100 + row for row in rows]).normal(2, 8, 8)
        return sample(name, denoiser, noise, labels[list(rows)], 4, process.sigma_min, process.sigma_max, TIMES)

    whole = run(range(5))
    torch.testing.assert_close(torch.cat([run(range(2)), run(range(2, 5))]), whole, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(whole[0], whole[3], atol=1e-2)


def test_sigma_grids_have_their_spacing():
    karras = torch.tensor(karras_sigmas(18, 0.002, 80.0), dtype=torch.float64)
    log_snr = torch.tensor(log_snr_sigmas(18, 0.002, 80.0), dtype=torch.float64)
    for sigmas, warped in [(karras, karras[:-1] ** (1 / 7)), (log_snr, log_snr[:-1].log())]:
        assert len(sigmas) == 19
        assert sigmas[[0, -2, -1]].tolist() == pytest.approx([80.0, 0.002, 0.0])
        steps = warped.diff()
        torch.testing.assert_close(steps, steps.mean().expand(17))


@pytest.mark.parametrize(
    ("steps", "orders"), [(1, [1]), (2, [2]), (3, [2, 1]), (4, [3, 1]), (6, [3, 2, 1]), (50, [3] * 16 + [2])]
)
def test_evaluations_are_split_into_steps_of_third_order(steps, orders):
    assert singlestep_orders(steps) == orders


def test_dpm_solver_fast_has_the_papers_grid():
    """17 intervals of equal length in lambda; a third-order one is cut at 1/3 and 2/3, the last at 1/2."""
    process = VariancePreserving()
    grid = sampling_grid("dpm_solver_fast", 50, process.sigma_min, process.sigma_max)
    lengths = -torch.tensor(grid, dtype=torch.float64).log().diff()
    interval = math.log(process.sigma_max / process.sigma_min) / 17
    expected = torch.tensor([interval / 3] * 48 + [interval / 2] * 2, dtype=torch.float64)
    torch.testing.assert_close(lengths, expected)


@pytest.mark.parametrize("process", [DiscreteVariancePreserving(), FlowMatching()])
def test_dpm_solver_pp_fast_has_the_papers_grid(process):
    """50 intervals of equal length in time."""
    sigmas = sampling_grid("dpm_solver_pp_fast", 50, process.sigma_min, process.sigma_max, process)
    assert (sigmas[0], sigmas[-1]) == (process.sigma_max, process.sigma_min)
    times = process.time_of_sigma(torch.tensor(sigmas, dtype=torch.float64))
    torch.testing.assert_close(times, torch.linspace(times[0], 0.001, 51, dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(UNDENOISED))
def test_single_step_solvers_are_exact_where_their_model_value_is_constant(name):
    """One step of any order: constant noise for DPM-Solver, a constant clean image for DPM-Solver++."""
    constant, noise = torch.rand(1, 1, 2, 2).double(), torch.randn(1, 1, 2, 2).double()
    start = math.hypot(1, 9.0) * noise
    for steps in (1, 2, 3, 5):
        if name == "dpm_solver_fast":
            expected = start + (0.3 - 9.0) * constant
            actual = sample(
                name, lambda x, s, y: x - images_shape(s) * constant, noise, torch.zeros(1), steps, 0.3, 9.0
            )
        else:
            expected = constant + 0.3 / 9.0 * (start - constant)
            actual = sample(name, lambda x, s, y: constant, noise, torch.zeros(1), steps, 0.3, 9.0, TIMES)
        torch.testing.assert_close(actual, expected / math.hypot(1, 0.3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dpm_solver_pp_fast", 10, 0.01, 10.0), "uniformly in time"),
        (("ddpm", 10, 0.01, 10.0), "heun"),
        (("heun", 0, 0.01, 10.0), "at least 1 step"),
        (("heun", 10, 0.0, 10.0), "sigma_min"),
        (("heun", 10, 10.0, 0.01), "sigma_min"),
    ],
)
def test_impossible_sampling_is_refused(arguments, message):
    name, steps, sigma_min, sigma_max = arguments
    with pytest.raises(ValueError, match=message):
        sample(name, gaussian_denoiser, torch.zeros(1, 1, 2, 2), torch.zeros(1), steps, sigma_min, sigma_max)


def test_pixels_survive_the_round_trip():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(pixels)), pixels)
    assert from_uint8(pixels)[[0, 255]].tolist() == [-1, 1]


def test_to_uint8_rounds_and_clamps():
    images = torch.tensor([-3.0, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 7.0])
    assert to_uint8(images).tolist() == [0, 0, 1, 255]
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(torch.tensor([0.0, math.nan]))


# --- Guidance ---


def test_guidance_scale_zero_is_the_denoiser_itself():
    assert guided(gaussian_denoiser, 0.0, null_label=2) is gaussian_denoiser


@pytest.mark.parametrize(("together", "calls"), [(True, [8]), (False, [4, 4]), (None, [4, 4])])
@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_guidance_follows_the_papers_formula_for_noise_in_every_channel(scale, together, calls):
    """eps = eps_cond + scale * (eps_cond - eps_uncond), with eps = (x - clean) / sigma; one call, or two on a CPU."""
    rows = []

    def counting(x, sigma, label):
        rows.append(len(x))
        return gaussian_denoiser(x, sigma, label)

    x, sigma, label = torch.randn(4, 4, 2, 2).double(), torch.rand(4).double() + 0.1, torch.tensor([0, 1, 0, 1])

    def noise_of(denoiser, label):
        return (x - denoiser(x, sigma, label)) / images_shape(sigma)

    conditional, unconditional = noise_of(gaussian_denoiser, label), noise_of(gaussian_denoiser, torch.full((4,), 2))
    actual = noise_of(guided(counting, scale, null_label=2, together=together), label)
    torch.testing.assert_close(actual, conditional + scale * (conditional - unconditional))
    assert rows == calls


def test_guidance_pushes_away_from_the_unconditional_mean():
    noise, label = torch.randn(500, 1, 2, 2), torch.ones(500, dtype=torch.long)
    plain, pushed = (
        sample("heun", guided(gaussian_denoiser, scale, null_label=2), noise, label, 20, 0.002, 80.0).mean()
        for scale in (0.0, 0.5)
    )
    assert pushed < plain - 0.1  # class 1 has mean -0.2, the null label 0.5


def test_negative_guidance_is_refused():
    with pytest.raises(ValueError, match="guidance scale"):
        guided(gaussian_denoiser, -0.1, null_label=2)


# --- Processes ---


def test_variance_preserving_sigma_is_the_integral_of_beta():
    process = VariancePreserving()
    for time in (1e-4, 0.1, 0.5, 1.0):
        grid = torch.linspace(0, time, 100_001, dtype=torch.float64)
        alpha_squared = torch.exp(-torch.trapezoid(0.1 + 19.9 * grid, grid))
        expected = ((1 - alpha_squared) / alpha_squared).sqrt()
        torch.testing.assert_close(process.sigma_of_time(grid[-1]), expected)
    assert process.sigma_of_time(torch.tensor(0.0)) == 0
    assert process.sigma_max == pytest.approx(math.sqrt(math.exp(10.05) - 1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_variance_preserving_time_round_trip(dtype, tolerance):
    process = VariancePreserving()
    time = torch.cat([torch.zeros(1), torch.logspace(-5, 0, 200)]).to(dtype)
    sigma = process.sigma_of_time(time)
    torch.testing.assert_close(process.time_of_sigma(sigma), time, rtol=10 * tolerance, atol=tolerance)
    assert (sigma.diff() > 0).all()


def test_variance_preserving_network_sees_the_variance_preserving_state():
    """alpha^2 + sigma'^2 = 1, the state is alpha * clean + sigma' * noise, and the time is 999 t."""
    process = VariancePreserving()
    time = torch.linspace(0, 1, 50, dtype=torch.float64)
    sigma = process.sigma_of_time(time)
    coefficients = process.coefficients(sigma)
    alpha, std = coefficients.input, coefficients.input * sigma
    torch.testing.assert_close(alpha**2 + std**2, torch.ones_like(time))
    torch.testing.assert_close(-2 * alpha.log(), 0.1 * time + 9.95 * time**2)
    torch.testing.assert_close(coefficients.time, 999 * time)


def test_exact_noise_network_makes_the_exact_denoiser():
    """The noise predictor that is optimal for a Gaussian, written in t, gives the Gaussian's denoiser."""

    def network(x, time, label):
        t = time.double() / 999
        alpha_squared = images_shape(torch.exp(-(0.1 * t + 9.95 * t**2)))
        std = (1 - alpha_squared).sqrt()
        noise = std * (x - alpha_squared.sqrt() * images_shape(MEANS[label])) / (alpha_squared * STD**2 + std**2)
        return noise.float()

    x, sigma, label = torch.randn(6, 2, 3, 3), torch.logspace(-1.5, 1, 6), torch.arange(6) % 3
    actual = VariancePreserving().denoiser(network)(x, sigma, label)
    torch.testing.assert_close(
        actual, gaussian_denoiser(x.double(), sigma.double(), label).float(), rtol=1e-4, atol=1e-4
    )


def test_edm_zero_network_is_exact_for_data_of_std_sigma_data():
    """For clean ~ N(0, sigma_data^2) nothing is left to learn, and the target has unit variance."""
    process = EdmPreconditioning()
    x, sigma, label = torch.randn(6, 2, 3, 3), torch.logspace(-2, 2, 6), torch.zeros(6, dtype=torch.long)
    actual = process.denoiser(lambda x, time, label: torch.zeros_like(x))(x, sigma, label)
    torch.testing.assert_close(actual, images_shape(0.25 / (0.25 + sigma**2)) * x)
    clean, noise = 0.5 * torch.randn(6, 1, 200, 200), torch.randn(6, 1, 200, 200)
    target = process.target(clean, noise, sigma)
    scaled = images_shape(process.coefficients(sigma).input) * (clean + images_shape(sigma) * noise)
    torch.testing.assert_close(target.std(dim=(1, 2, 3)), torch.ones(6), rtol=0.02, atol=0)
    torch.testing.assert_close(scaled.std(dim=(1, 2, 3)), torch.ones(6), rtol=0.02, atol=0)


def test_edm_network_is_told_a_quarter_of_log_sigma():
    sigma = torch.tensor([0.002, 1.0, 80.0])
    torch.testing.assert_close(EdmPreconditioning().coefficients(sigma).time, sigma.log() / 4)


@pytest.mark.parametrize("process", PROCESSES)
def test_loss_is_the_papers_weighted_denoising_error(process):
    """The loss in network units equals weight * |denoiser - clean|^2 for the same draws."""
    network, images, labels = tiny_network(), torch.rand(8, 2, 8, 8) * 2 - 1, torch.arange(8) % 3
    actual = process.loss(network, images, labels, RowRandom(range(8)))
    replay = RowRandom(range(8))
    sigma, noise = process.draw_sigma(replay), replay.normal(2, 8, 8)
    x = images.double() + (images_shape(sigma) * noise).double()
    error = (process.denoiser(network)(x, sigma.double(), labels) - images).square()
    if isinstance(process, EdmPreconditioning):
        expected = (sigma**2 + 0.25) / (0.5 * sigma) ** 2 * error.sum(dim=(1, 2, 3))
    elif isinstance(process, FlowMatching):
        expected = error.mean(dim=(1, 2, 3)) / (sigma / (1 + sigma)) ** 2
    else:
        expected = error.mean(dim=(1, 2, 3)) / sigma**2
    torch.testing.assert_close(actual.double(), expected, rtol=1e-3, atol=1e-6)


def test_training_noise_levels_have_their_distribution():
    time = VariancePreserving().time_of_sigma(VariancePreserving().draw_sigma(RowRandom([1], 20_000)))
    quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    torch.testing.assert_close(time.quantile(quantiles), quantiles, atol=0.015, rtol=0)
    log_sigma = EdmPreconditioning().draw_sigma(RowRandom([1], 20_000)).log()
    assert log_sigma.mean().item() == pytest.approx(-1.2, abs=0.04)
    assert log_sigma.std().item() == pytest.approx(1.2, abs=0.03)


# --- Objective ---


class Recorder(nn.Module):
    """A network that predicts zero and remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, time, label):
        self.calls.append((x, time, label))
        return torch.zeros_like(x)


def image_batch(images, labels, seed=0):
    return {"images": ImageBatch(images, labels, torch.arange(len(labels)), RowRandom([seed], len(labels)))}


def test_loss_is_zero_for_the_network_that_knows_the_noise():
    """All images are one known image, so the noise can be solved for from the state and the time."""
    clean = from_uint8(torch.randint(256, (2, 8, 8), dtype=torch.uint8))

    def network(x, time, label):
        t = time.double() / 999
        alpha = images_shape(torch.exp(-(0.1 * t + 9.95 * t**2) / 2))
        return ((x - alpha * clean) / (1 - alpha**2).sqrt()).float()

    batch = image_batch(to_uint8(clean).expand(64, 2, 8, 8), torch.zeros(64, dtype=torch.long))
    loss, metrics = DiffusionObjective(VariancePreserving(), null_label=3)(network, batch)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert metrics["loss"] == loss


def test_loss_is_one_for_the_network_that_predicts_no_noise():
    network = Recorder()
    batch = image_batch(torch.zeros(200, 2, 8, 8, dtype=torch.uint8), torch.zeros(200, dtype=torch.long))
    loss, metrics = DiffusionObjective(VariancePreserving(), null_label=3)(network, batch)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(1, abs=0.05)  # the mean square of standard normal noise
    assert not metrics["loss"].requires_grad
    assert len(network.calls) == 1


@pytest.mark.parametrize("probability", [0.0, 0.15, 1.0])
def test_labels_are_dropped_at_the_given_rate(probability):
    network, labels = Recorder(), torch.arange(8000) % 3
    objective = DiffusionObjective(VariancePreserving(), null_label=3, label_dropout=probability)
    objective(network, image_batch(torch.zeros(8000, 1, 2, 2, dtype=torch.uint8), labels))
    seen = network.calls[0][2]
    dropped = seen == 3
    assert dropped.float().mean().item() == pytest.approx(probability, abs=0.015)
    assert torch.equal(seen[~dropped], labels[~dropped])
    assert seen.dtype == torch.int64


def test_unknown_labels_become_the_null_label():
    network = Recorder()
    labels = torch.tensor([0, UNKNOWN_LABEL, 2, UNKNOWN_LABEL])
    DiffusionObjective(EdmPreconditioning(), null_label=3)(
        network, image_batch(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), labels)
    )
    assert network.calls[0][2].tolist() == [0, 3, 2, 3]


@pytest.mark.parametrize("horizontal_flip", [False, True])
def test_half_of_the_images_are_mirrored_if_asked(horizontal_flip):
    network = Recorder()
    images = torch.zeros(2000, 1, 1, 8, dtype=torch.uint8)
    images[..., 4:] = 255  # dark left, bright right
    objective = DiffusionObjective(EdmPreconditioning(), null_label=3, horizontal_flip=horizontal_flip)
    objective(network, image_batch(images, torch.zeros(2000, dtype=torch.long)))
    x, time, _ = network.calls[0]
    clear = time < math.log(0.3) / 4  # little noise
    mirrored = (x[..., :4].mean(dim=(1, 2, 3)) > x[..., 4:].mean(dim=(1, 2, 3)))[clear]
    assert clear.sum() > 500
    assert mirrored.float().mean().item() == pytest.approx(0.5 if horizontal_flip else 0.0, abs=0.07)


def test_the_network_is_told_of_augmentation_and_dropout():
    told = []

    class Told(Recorder):
        def __call__(self, x, time, label, **extras):
            told.append(extras)
            return super().__call__(x, time, label)

    batch = image_batch(torch.randint(256, (6, 2, 8, 8), dtype=torch.uint8), torch.arange(6) % 3)
    augmentation = Augmentation(0.5, horizontal_flip=True)
    DiffusionObjective(EdmPreconditioning(), null_label=3)(Told(), batch)
    DiffusionObjective(EdmPreconditioning(), null_label=3, augmentation=augmentation, dropout=True)(Told(), batch)
    plain, full = told
    assert plain == {}
    assert full["augmentation"].shape == (6, 9)
    assert full["augmentation"].any()
    assert full["dropout_seed"].dtype == torch.int64
    assert full["dropout_seed"].unique().numel() == 6


def dropping_network():
    network = DdpmPlusPlus(
        image_size=8, in_channels=2, num_classes=3, channels=8, multipliers=(1, 1), blocks=1, dropout=0.5,
        augmentation_dim=9,
    )  # fmt: skip
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("told", [False, True])
def test_loss_of_a_row_does_not_depend_on_its_batch(process, told):
    """The mean over two workers' halves is the mean of the whole, flips, dropout and noise included."""
    extras = {"augmentation": Augmentation(0.5, True), "dropout": True} if told else {"horizontal_flip": True}
    objective = DiffusionObjective(process, null_label=3, label_dropout=0.3, **extras)
    network = dropping_network() if told else tiny_network()
    images, labels = torch.randint(256, (8, 2, 8, 8), dtype=torch.uint8), torch.arange(8) % 3

    def losses(lanes):  # two rows a lane
        rows = slice(2 * lanes[0], 2 * lanes[-1] + 2)
        random = RowRandom([50 + lane for lane in lanes], rows_per_stream=2)
        return objective(network, {"images": ImageBatch(images[rows], labels[rows], torch.arange(8)[rows], random)})[0]

    torch.testing.assert_close((losses([0, 1]) + losses([2, 3])) / 2, losses([0, 1, 2, 3]), rtol=1e-4, atol=0)
    assert not torch.allclose(losses([0, 1]), losses([2, 3]), rtol=1e-4)


def test_gradients_reach_the_network():
    network = tiny_network()
    objective = DiffusionObjective(VariancePreserving(), null_label=3, label_dropout=0.5)
    loss, _ = objective(network, image_batch(torch.zeros(8, 2, 8, 8, dtype=torch.uint8), torch.arange(8) % 3))
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("wrong", [{"label_dropout": 1.5}, {"label_dropout": -0.1}, {"null_label": -1}])
def test_impossible_objectives_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DiffusionObjective(VariancePreserving(), **{"null_label": 3} | wrong)
