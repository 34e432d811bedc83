"""Our samplers against diffusers' schedulers: equal to rounding, on one network and one grid of noise levels.

Grids are ours: the schedulers' own are rounded to 1000 time steps, and kept in float32. Where a
scheduler computes in float32, which it does to the state whatever it gets, ours is compared with it
to float32's rounding; the others run in float64 and are compared to that.
"""

import math

import pytest
import torch

from dpt_ray.core.diffusion.discrete_schedule import DiscreteVariancePreserving
from dpt_ray.core.diffusion.processes import VariancePreserving
from dpt_ray.core.diffusion.samplers import SAMPLERS, sampling_grid

schedulers = pytest.importorskip("diffusers.schedulers")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}
FLOAT64 = {"rtol": 1e-9, "atol": 1e-9}
WEIGHT = torch.randn(3, 3, generator=torch.Generator().manual_seed(3)).double()


@pytest.fixture
def noise():
    torch.set_num_threads(1)
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(2)).double()


def predict_noise(state, sigma):
    """A fixed, nonlinear network: the noise in a state alpha * clean + sigma' * noise."""
    mixed = torch.einsum("ij,bjhw->bihw", WEIGHT, state.double())
    return torch.tanh(mixed + 0.3 * math.log(sigma)) * sigma / (1 + sigma) + 0.2 * state.double()


def denoiser(x, sigma, label):
    level = sigma[0].item()
    return x - level * predict_noise(x / math.hypot(1, level), level)


def ours(name, noise, grid):
    return SAMPLERS[name].solve(denoiser, noise, torch.zeros(len(noise)), grid)


def grid_of(name, steps):
    process = VariancePreserving() if name == "dpm_solver_fast" else DiscreteVariancePreserving()
    return sampling_grid(name, steps, process.sigma_min, process.sigma_max, process)


def run(scheduler, levels, state, network, before_step=lambda number: None):
    """Run a scheduler over our noise levels, each with a time step of its own.

    Args:
        levels: the level of every evaluation, then the last one.
        state: where it starts, as the scheduler scales it.
        network: (state, sigma) -> predicted noise.
        before_step: called with the number of each step.
    """
    scheduler.set_timesteps(len(levels) - 1)
    scheduler.sigmas = torch.tensor(levels, dtype=torch.float64)
    scheduler.timesteps = torch.arange(len(levels) - 1, 0, -1, dtype=torch.float32)
    scheduler.set_begin_index(0)
    for number, time in enumerate(scheduler.timesteps):
        before_step(number)
        scheduler.scale_model_input(state, time)  # our network takes the state as it is
        state = scheduler.step(network(state, levels[number]), time, state, return_dict=False)[0]
    return state


def on_noisy_image(x, sigma):
    return predict_noise(x / math.hypot(1, sigma), sigma)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_agrees_with_diffusers_in_the_noisy_image(name, noise):
    grid = grid_of(name, 12)
    kind = {"euler": schedulers.EulerDiscreteScheduler, "heun": schedulers.HeunDiscreteScheduler}[name]
    # Heun's scheduler lists the levels of its evaluations, both of an interval.
    levels = [*SAMPLERS[name].evaluated(grid), 0.0]
    theirs = run(kind(), levels, grid[0] * noise, on_noisy_image)
    torch.testing.assert_close(ours(name, noise, grid), theirs.double(), **(FLOAT32 if name == "euler" else FLOAT64))


@pytest.mark.parametrize("name", ["dpm_solver_pp_2m", "dpm_solver_pp_2m_karras"])
def test_dpm_solver_pp_2m_agrees_with_diffusers(name, noise):
    grid = grid_of(name, 12)
    scheduler = schedulers.DPMSolverMultistepScheduler(solver_order=2, lower_order_final=False)
    theirs = run(scheduler, grid, grid[0] / math.hypot(1, grid[0]) * noise, predict_noise)
    torch.testing.assert_close(ours(name, noise, grid), theirs.double(), **FLOAT32)


def singlestep_scheduler(name):
    kind = "dpmsolver" if name == "dpm_solver_fast" else "dpmsolver++"
    return schedulers.DPMSolverSinglestepScheduler(
        solver_order=3, algorithm_type=kind, lower_order_final=True, final_sigmas_type="sigma_min"
    )


@pytest.mark.parametrize("name", ["dpm_solver_fast", "dpm_solver_pp_fast"])
@pytest.mark.parametrize("steps", [2, 6, 7, 50])
def test_single_step_solvers_agree_with_diffusers(name, steps, noise):
    """With one change to theirs, which is the published algorithm.

    Their scheduler has one `solver_type` for all updates, while the published third-order step takes the
    exact weight of a linear value ("heun" there) to reach its second inner level, and what is "midpoint"
    there for the end; second-order steps are "midpoint". So the type is switched to and fro here.
    """
    grid = grid_of(name, steps)
    scheduler = singlestep_scheduler(name)

    def choose_type(number):
        inner = scheduler.order_list[number] == 2 and scheduler.order_list[number + 1 : number + 2] == [3]
        scheduler.register_to_config(solver_type="heun" if inner else "midpoint")

    theirs = run(scheduler, grid, noise, predict_noise, choose_type)
    torch.testing.assert_close(ours(name, noise, grid), theirs, **FLOAT64)


def test_the_unchanged_scheduler_differs_by_its_inner_update_alone(noise):
    """Without the switch the two are near, but apart by more than rounding."""
    grid = grid_of("dpm_solver_pp_fast", 50)
    apart = (
        ours("dpm_solver_pp_fast", noise, grid)
        - run(singlestep_scheduler("dpm_solver_pp_fast"), grid, noise, predict_noise)
    ).abs()
    assert 1e-6 < apart.max() < 0.05


def test_discrete_schedule_is_stable_diffusions():
    scheduler = schedulers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    sigma = DiscreteVariancePreserving().sigma_of_time(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    product = scheduler.alphas_cumprod.double()
    torch.testing.assert_close(sigma, ((1 - product) / product).sqrt(), rtol=1e-4, atol=0)
