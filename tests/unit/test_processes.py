"""Every process and loss weighting against closed forms, on data whose ideal network is known."""

import math
from itertools import pairwise

import pytest
import torch

from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.core.diffusion import weighting
from dpt_ray.core.diffusion.denoiser import call_network, per_image
from dpt_ray.core.diffusion.discrete_schedule import DiscreteVariancePreserving
from dpt_ray.core.diffusion.flow_matching import FlowMatching
from dpt_ray.core.diffusion.processes import EdmPreconditioning, VariancePreserving
from dpt_ray.core.diffusion.samplers import sample, sample_euler
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.training.from_settings import generator_training

TIMED = [VariancePreserving(), DiscreteVariancePreserving(), FlowMatching()]
PROCESSES = [*TIMED, EdmPreconditioning(), FlowMatching(times="logit_normal")]
STD = 0.4  # of every clean pixel, which is normal with mean 0
WEIGHTINGS = [None, weighting.min_snr(5.0), weighting.edm(0.5)]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def name_of(value):
    return type(value).__name__


class IdealNetwork:
    """The network whose denoiser is the Gaussian's; it finds the noise level by the time it is told."""

    def __init__(self, process):
        self.process = process

    def __call__(self, x, time, label):
        process = self.process
        if isinstance(process, EdmPreconditioning):
            sigma = torch.exp(4 * time.double())
        else:
            sigma = process.sigma_of_time(time.double() / process.time_scale)
        c = process.coefficients(sigma)
        noisy = x.double() / per_image(c.input)
        clean = per_image(STD**2 / (STD**2 + sigma.square())) * noisy
        return ((clean - per_image(c.skip) * noisy) / per_image(c.output)).float()


@pytest.mark.parametrize("process", PROCESSES, ids=name_of)
def test_denoiser_of_the_true_target_returns_the_clean_image(process):
    clean, noise = torch.rand(7, 2, 4, 4).double() * 2 - 1, torch.randn(7, 2, 4, 4).double()
    sigma = torch.logspace(math.log10(process.sigma_min), math.log10(process.sigma_max), 7, dtype=torch.float64)
    x = clean + per_image(sigma) * noise
    c = process.coefficients(sigma)
    target = process.target(clean, noise, sigma)
    torch.testing.assert_close(per_image(c.skip) * x + per_image(c.output) * target, clean, atol=1e-9, rtol=0)


@pytest.mark.parametrize("process", PROCESSES, ids=name_of)
def test_ideal_network_makes_the_ideal_denoiser(process):
    x, sigma = torch.randn(9, 2, 3, 3).double(), torch.logspace(-1.5, 1, 9, dtype=torch.float64)
    actual = process.denoiser(IdealNetwork(process))(x, sigma, torch.zeros(9, dtype=torch.long))
    torch.testing.assert_close(actual, per_image(STD**2 / (STD**2 + sigma**2)) * x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("process", PROCESSES, ids=name_of)
@pytest.mark.parametrize("weight", WEIGHTINGS, ids=["published", "min_snr", "edm"])
def test_loss_of_the_ideal_network_is_the_weighted_variance_that_is_left(process, weight):
    """E[(denoiser - clean)^2 | x] = STD^2 sigma^2 / (STD^2 + sigma^2), for each pixel."""
    size = 64 if weight is None else 128
    images = STD * torch.randn(12, 1, size, size)
    labels = torch.zeros(12, dtype=torch.long)
    losses = process.loss(IdealNetwork(process), images, labels, RowRandom(range(12)), weight)
    sigma = process.draw_sigma(RowRandom(range(12))).double()
    if weight is None:
        of_denoiser = 1 / process.coefficients(sigma).output.square()
    elif weight is WEIGHTINGS[1]:
        of_denoiser = torch.minimum(1 / sigma**2, torch.tensor(5.0))
    else:
        of_denoiser = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    pixels = size**2 if isinstance(process, EdmPreconditioning) else 1
    expected = pixels * of_denoiser * STD**2 * sigma**2 / (STD**2 + sigma**2)
    # The mean of n squared normal pixels strays by sqrt(2 / n) of itself: 4.5 times that.
    torch.testing.assert_close(losses.double(), expected, rtol=4.5 * math.sqrt(2) / size, atol=0)


@pytest.mark.parametrize("process", PROCESSES, ids=name_of)
def test_samples_of_the_ideal_network_have_the_data_distribution(process):
    denoiser = process.denoiser(IdealNetwork(process))
    noise, labels = torch.randn(2000, 1, 2, 2), torch.zeros(2000, dtype=torch.long)
    images = sample("heun", denoiser, noise, labels, 60, process.sigma_min, process.sigma_max)
    assert images.mean().item() == pytest.approx(0, abs=0.02)
    assert images.std().item() == pytest.approx(STD, rel=0.04)


# --- Times and noise levels ---


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("process", TIMED, ids=name_of)
def test_time_round_trip(process, dtype, tolerance):
    time = torch.cat([torch.zeros(1), torch.logspace(-5, math.log10(0.999), 200)]).to(dtype)
    sigma = process.sigma_of_time(time)
    assert sigma.dtype == dtype
    assert sigma[0] == 0
    assert (sigma.diff() > 0).all()
    torch.testing.assert_close(process.time_of_sigma(sigma), time, rtol=10 * tolerance, atol=tolerance)


def test_discrete_schedule_is_the_product_of_its_betas():
    process = DiscreteVariancePreserving()
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha_squared = torch.cumprod(1 - beta, 0)
    steps = torch.arange(1, 1001, dtype=torch.float64)
    sigma = process.sigma_of_time(steps / 1000)
    torch.testing.assert_close(sigma, ((1 - alpha_squared) / alpha_squared).sqrt(), rtol=1e-9, atol=0)
    assert process.sigma_min == pytest.approx(math.sqrt(0.00085 / 0.99915))
    assert process.sigma_max == pytest.approx(sigma[-1].item())
    c = process.coefficients(sigma)
    torch.testing.assert_close(c.time, steps)
    torch.testing.assert_close(c.input.square(), alpha_squared)


def test_discrete_schedule_is_linear_in_log_alpha_squared_between_its_steps():
    process = DiscreteVariancePreserving()
    steps = torch.tensor([411.0, 411.25, 412.0], dtype=torch.float64)
    low, between, high = torch.log1p(process.sigma_of_time(steps / 1000).square()).tolist()
    assert between == pytest.approx(0.75 * low + 0.25 * high)


def test_discrete_network_is_told_whole_steps_which_are_uniform():
    process = DiscreteVariancePreserving()
    told = process.coefficients(process.draw_sigma(RowRandom([1], 20_000))).time
    torch.testing.assert_close(told, told.round(), rtol=0, atol=1e-3)
    assert (told.round().min(), told.round().max()) == (1, 1000)
    quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    torch.testing.assert_close(told.quantile(quantiles), 1000 * quantiles, atol=15, rtol=0)


def test_flow_is_the_straight_line_with_its_velocity():
    process = FlowMatching()
    time = torch.tensor([0.0, 0.1, 0.5, 0.9, 0.999], dtype=torch.float64)
    clean, noise = torch.randn(5, 1, 2, 2).double(), torch.randn(5, 1, 2, 2).double()
    sigma = process.sigma_of_time(time)
    seen = {}

    def network(x, told, label):
        seen["x"], seen["time"] = x, told
        return x

    x = clean + per_image(sigma) * noise
    call_network(network, process.coefficients(sigma), x, torch.zeros(5))
    line = per_image(1 - time) * clean + per_image(time) * noise
    torch.testing.assert_close(seen["x"], line.float())
    torch.testing.assert_close(seen["time"], (999 * time).float())
    assert torch.equal(process.target(clean, noise, sigma), noise - clean)


def test_both_ends_of_the_flow_are_known():
    process = FlowMatching()
    assert process.sigma_of_time(torch.tensor([0.0, 1.0])).tolist() == [0, math.inf]
    assert process.time_of_sigma(torch.tensor([0.0, math.inf])).tolist() == [0, 1]
    assert (process.sigma_min, process.sigma_max) == (pytest.approx(0.001 / 0.999), pytest.approx(99))


@pytest.mark.parametrize(("times", "expected"), [("uniform", [0.1, 0.5, 0.9]), ("logit_normal", [0.2173, 0.5, 0.7827])])
def test_flow_times_have_their_distribution(times, expected):
    """The 10 % quantile of the logit-normal is sigmoid(-1.2816)."""
    process = FlowMatching(times=times)
    drawn = process.time_of_sigma(process.draw_sigma(RowRandom([1], 20_000)))
    torch.testing.assert_close(
        drawn.quantile(torch.tensor([0.1, 0.5, 0.9])), torch.tensor(expected), atol=0.015, rtol=0
    )


def test_eulers_method_on_the_flow_is_its_step_in_time():
    """state' = state + (t' - t) * velocity: Euler in sigma and Euler in t are one, on a straight line."""
    process = FlowMatching()
    times = torch.tensor([0.999, 0.6, 0.3, 0.1, 0.0], dtype=torch.float64)

    def network(state, told, label):
        return torch.tanh(3 * state + told[:, None, None, None] / 999)

    noise = torch.randn(2, 1, 3, 3)
    actual = sample_euler(process.denoiser(network), noise, torch.zeros(2), process.sigma_of_time(times).tolist())
    state = times[0] * noise.double()
    for time, next_time in pairwise(times):
        state = state + (next_time - time) * network(state.float(), 999 * time.float().expand(2), None).double()
    torch.testing.assert_close(actual, state.float(), rtol=1e-4, atol=1e-5)


def generator_objective(**settings):
    model = GeneratorModelConfig(dim=8, depth=2, heads=2)
    config = GeneratorConfig(model=model, **settings)
    return generator_training(config, image_size=4, channels=1, num_classes=3, seed=0).objective


def test_settings_choose_process_and_weighting():
    assert generator_objective().process == VariancePreserving()
    assert generator_objective(process="edm").process == EdmPreconditioning()
    assert generator_objective(process="discrete_variance_preserving").process == DiscreteVariancePreserving()
    flow = generator_objective(process="flow_matching", flow_times="logit_normal")
    assert flow.process == FlowMatching(times="logit_normal")
    assert flow.weighting is None
    sigma = torch.tensor([0.1])  # SNR 100
    weight = generator_objective(loss_weighting="min_snr", min_snr_gamma=3).weighting
    assert weight(sigma, -sigma).item() == pytest.approx(0.03)
    weight = generator_objective(loss_weighting="edm").weighting
    assert weight(sigma, -sigma).item() == pytest.approx(1.04)


# --- Weightings ---

SIGMA = torch.logspace(-3, 2, 60, dtype=torch.float64)
SNR = 1 / SIGMA**2


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (-SIGMA, torch.minimum(SNR, torch.tensor(5.0)) / SNR),  # the noise
        (-SIGMA / (1 + SIGMA**2).sqrt(), torch.minimum(SNR, torch.tensor(5.0)) / (SNR + 1)),  # VP's velocity
        (torch.ones_like(SIGMA), torch.minimum(SNR, torch.tensor(5.0))),  # the clean image
    ],
    ids=["noise", "velocity", "clean"],
)
def test_min_snr_has_the_papers_form_for_each_prediction(output, expected):
    torch.testing.assert_close(weighting.min_snr(5.0)(SIGMA, output), expected)


def test_edm_weighting_leaves_edm_as_it_is_and_is_known_for_the_noise():
    edm = EdmPreconditioning()
    ones = weighting.edm(0.5)(SIGMA, edm.coefficients(SIGMA).output)
    torch.testing.assert_close(ones, torch.ones_like(SIGMA))
    torch.testing.assert_close(weighting.edm(0.5)(SIGMA, -SIGMA), 1 + (SIGMA / 0.5) ** 2)


class NoNoise(VariancePreserving):
    """A process that draws the level 0, as uniform times do once in 2^24."""

    def draw_sigma(self, random):
        return torch.zeros(len(random))


@pytest.mark.parametrize(("weight", "expected"), [(WEIGHTINGS[1], 0.0), (WEIGHTINGS[2], 1.0)])
def test_weights_are_finite_without_noise(weight, expected):
    """The limits of 1 and of gamma / SNR, times the mean square of the noise."""
    images = torch.zeros(1, 1, 128, 128)
    loss = NoNoise().loss(lambda x, t, y: torch.zeros_like(x), images, torch.zeros(1), RowRandom([0]), weight)
    assert loss.item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("make", [weighting.min_snr, weighting.edm])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_impossible_weightings_are_refused(make, value):
    with pytest.raises(ValueError, match="must be above 0"):
        make(value)
