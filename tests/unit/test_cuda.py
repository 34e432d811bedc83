"""On a GPU: the same numbers as on a CPU, up to rounding, by every path that only a GPU takes. Skipped without one."""

import copy
from dataclasses import replace
from itertools import islice

import pytest
import torch

from dpt_ray.config.classifier_section import AlgorithmConfig, ClassifierConfig, ClassifierModelConfig
from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.cuda_graph import GraphedFunction
from dpt_ray.core.diffusion.edm_augmentation import Augmentation
from dpt_ray.core.fitting_batch import batch_size
from dpt_ray.core.philox import draws
from dpt_ray.core.probe.logistic import fit_logistic
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.semi_supervised.weak_strong_augmentation import Strong, Weak
from dpt_ray.core.training.compute import check_compiler, check_precision, compile_network, keep_channels_last
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.core.training.graphed_step import FIRST_STEPS, GraphedStep
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.core.training.nonfinite import NonFiniteLossError
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.training.update import StepSettings
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.resident import ResidentSource
from dpt_ray.networks.generator import Generator, generator_file

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

STEPS, ROWS, CLASSES, SIZE = 6, 32, 3, 16
SGD = OptimizerConfig(name="sgd", learning_rate=0.05, gradient_clip=5.0)
CLASSIFIER = ClassifierConfig(
    model=ClassifierModelConfig(name="wide_resnet", depth=10, width=2),
    algorithm=AlgorithmConfig(statistics_momentum=0.5),
    optimizer=SGD,
)
ADAM = OptimizerConfig(name="adam", learning_rate=1e-3)
UVIT = GeneratorConfig(model=GeneratorModelConfig(patch_size=4, dim=64, depth=2, heads=2), optimizer=ADAM)
DDPMPP = GeneratorConfig(
    model=GeneratorModelConfig(name="ddpmpp", channels=16, multipliers=(1, 1), blocks=1, dropout=0.1),
    process="edm",
    augmentation=0.5,
    optimizer=ADAM,
)


@pytest.fixture(autouse=True)
def no_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def pixels(rows: int, seed: int) -> torch.Tensor:
    return torch.randint(256, (rows, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def batches(sources: tuple[str, ...], device: str):
    step = 0
    while True:
        made = {}
        for number, name in enumerate(sources):
            seeds = range(1000 * step + 100 * number, 1000 * step + 100 * number + ROWS)
            images, labels = pixels(ROWS, seeds[0]).to(device), (torch.arange(ROWS) % CLASSES).to(device)
            made[name] = ImageBatch(images, labels, torch.arange(ROWS).to(device), RowRandom(seeds, device=device))
        yield made
        step += 1


def start(config, device: str) -> tuple[TrainState, tuple[str, ...]]:
    form = {"channels": 3, "num_classes": CLASSES}
    if isinstance(config, ClassifierConfig):
        return classifier_training(config, **form, seed=0).to(device), ("labelled", "unlabelled")
    return generator_training(config, image_size=SIZE, **form, seed=0).to(device), ("images",)


def trained(config, device: str, state: TrainState | None = None, steps: int = STEPS, **options) -> TrainState:
    made, sources = start(config, device)
    state = state or made
    given = islice(batches(sources, device), state.images_seen // ROWS, None)
    train(state, given, Schedule(steps * ROWS, ROWS, ROWS, 1e9), config.optimizer, **options)
    return state


def weights(state: TrainState) -> torch.Tensor:
    return torch.cat([parameter.detach().cpu().flatten() for parameter in state.model.parameters()])


def off(state: TrainState, other: TrainState, config) -> float:
    """Return how far apart two trainings are, relative to how far they went."""
    began = weights(start(config, "cpu")[0])
    return ((weights(state) - weights(other)).norm() / (weights(other) - began).norm()).item()


@pytest.fixture(scope="module")
def on_cpu():
    made: dict[int, TrainState] = {}

    def get(config) -> TrainState:
        if id(config) not in made:
            made[id(config)] = trained(config, "cpu")
        return made[id(config)]

    return get


def test_random_numbers_are_those_of_a_cpu():
    for seeds, rows, shape in (([1], 1, ()), (range(8), 3, (5,)), ([7, 2**63 - 1], 2, (3, 33, 17))):
        for name, *bound in (("uniform",), ("integers", 9), ("integers", 2**31), ("normal",)):
            randoms = [RowRandom(seeds, rows, device) for device in ("cpu", "cuda")]
            for _ in range(3):
                expected, got = (getattr(random, name)(*bound, *shape) for random in randoms)
                torch.testing.assert_close(got.cpu(), expected, rtol=0, atol=4e-6 if name == "normal" else 0)
    assert draws._kernel_works(torch.device("cuda", 0))


def test_a_graph_draws_for_the_seeds_of_its_input():
    def drawn(seeds: torch.Tensor) -> torch.Tensor:
        random = RowRandom(seeds, 4)
        return random.normal(5) + random.uniform(5) + random.integers(9, 5)

    graphed = GraphedFunction(drawn)
    for first in (0, 100, 200):  # the first call captures what the others replay
        seeds = torch.arange(first, first + 8)
        got = graphed(seeds.cuda()).cpu()
        torch.testing.assert_close(got, drawn(seeds), rtol=0, atol=1e-5)


def test_views_are_the_same_to_the_bit():
    for make in (
        Weak(True, 4),
        Strong(Weak(True, 4)),
        Strong(Weak(False, 0), num_operations=0),
        Strong(Weak(), cutout=0),
    ):
        views = []
        for step in range(3):  # the first one records what the others replay
            images = pixels(256, step)
            expected, got = (make(images.to(d), RowRandom(range(step, step + 256), device=d)) for d in ("cpu", "cuda"))
            views.append((expected, got))
        assert all(torch.equal(got.cpu(), expected) for expected, got in views)


def test_a_generators_augmentation_is_the_same_up_to_rounding():
    images = pixels(64, 0) / 127.5 - 1
    expected, got = (Augmentation(0.5, True)(images.to(d), RowRandom(range(64), device=d)) for d in ("cpu", "cuda"))
    torch.testing.assert_close(got[0].cpu(), expected[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(got[1].cpu(), expected[1])


@pytest.mark.parametrize("config", [CLASSIFIER, UVIT, DDPMPP])
def test_training_goes_where_it_goes_on_a_cpu(config, on_cpu):
    state = trained(config, "cuda")
    assert state.heeds_found_inf
    assert off(state, on_cpu(config), config) < 0.02
    losses = [[row["loss"] for row in each.history] for each in (state, on_cpu(config))]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


@pytest.mark.parametrize("config", [CLASSIFIER, UVIT, DDPMPP])
def test_bfloat16_compiled_and_channels_last_goes_nearly_there(config, on_cpu):
    check_precision("bfloat16", torch.device("cuda"))
    check_compiler(torch.device("cuda"))
    state, _ = start(config, "cuda")
    keep_channels_last(state)
    compile_network(state.model)
    trained(config, "cuda", state, precision="bfloat16")
    assert {value.dtype for value in state.model.state_dict().values()} <= {torch.float32, torch.int64}
    losses = [[row["loss"] for row in each.history] for each in (state, on_cpu(config))]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize("config", [CLASSIFIER, UVIT])
def test_a_checkpoint_goes_on_from_one_device_on_the_other(config, on_cpu):
    half = trained(config, "cuda", steps=STEPS // 2)
    for device in ("cpu", "cuda"):
        state, _ = start(config, device)
        state.load_bytes(half.to_bytes())
        trained(config, device, state)
        assert off(state, on_cpu(config), config) < 0.02


@pytest.mark.parametrize("config", [CLASSIFIER, UVIT])
def test_what_is_not_finite_moves_nothing(config):
    state = trained(config, "cuda", steps=3)
    before = copy.deepcopy(state.model).state_dict()
    names = dict(state.model.named_parameters())
    inner = state.objective.forward

    def spoilt(*given):
        loss, told = inner(*given)
        return loss * float("nan"), told

    state.objective.forward = spoilt
    with pytest.raises(NonFiniteLossError, match=r"in step 4 \(images 97 to 128\)$"):
        train(state, batches(start(config, "cpu")[1], "cuda"), Schedule(9999, ROWS, 9999, 1e9), config.optimizer)
    assert all(torch.equal(before[name], value) for name, value in names.items())


def test_images_are_drawn_as_on_a_cpu(tmp_path):
    state = trained(UVIT, "cuda")
    file = tmp_path / "network.safetensors"
    form = {"image_size": SIZE, "channels": 3, "num_classes": CLASSES}
    file.write_bytes(generator_file(UVIT, form, state))
    wanted = [(label, number) for label in range(CLASSES) for number in range(4)]
    config = SamplingConfig(guidance_scale=0.4, steps=6)
    expected, got = (Generator(str(file), device).draw(config, 0, wanted).int() for device in ("cpu", "cuda"))
    assert (expected - got).abs().max() <= 2


def test_a_probe_finds_the_same_solution():
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(2000, 32, generator=random), torch.randint(5, (2000,), generator=random)
    expected, got = (
        fit_logistic(lambda: [(x, y)], 32, 5, l2=1e-4, tolerance=1e-8, device=device) for device in ("cpu", "cuda")
    )
    assert got.converged
    torch.testing.assert_close(got.weight, expected.weight, rtol=0, atol=1e-6)


def captured(config, state: TrainState) -> GraphedStep:
    def fail(line: str) -> None:
        raise AssertionError(line)

    return GraphedStep(state, state.model, StepSettings(config.optimizer.gradient_clip), fail)


@pytest.mark.parametrize("config", [CLASSIFIER, UVIT, DDPMPP])
def test_a_captured_step_goes_where_single_kernels_go(config):
    steps = 4 * FIRST_STEPS
    expected = trained(config, "cuda", steps=steps)
    state, _ = start(config, "cuda")
    trained(config, "cuda", state, steps=steps, graphed=captured(config, state))
    assert off(state, expected, config) < 0.02
    losses = [[row["loss"] for row in each.history] for each in (state, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_a_captured_step_that_is_not_finite_moves_nothing():
    state, sources = start(UVIT, "cuda")
    state.objective.register_buffer("factor", torch.ones((), device="cuda"), persistent=False)
    inner = state.objective.forward

    def scaled(*given):
        loss, metrics = inner(*given)
        return loss * state.objective.factor, metrics

    state.objective.forward = scaled
    step = captured(UVIT, state)
    given = batches(sources, "cuda")
    train(state, given, Schedule(6 * ROWS, ROWS, ROWS, 1e9), UVIT.optimizer, graphed=step)
    before = copy.deepcopy(state.model).state_dict()
    state.objective.factor.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="in step 7"):
        train(state, given, Schedule(99 * ROWS, ROWS, 99 * ROWS, 1e9), UVIT.optimizer, graphed=step)
    assert all(torch.equal(before[name], value) for name, value in state.model.state_dict().items())


def test_batches_of_the_device_and_those_that_arrive_are_equal():
    images, labels = pixels(50, 0).numpy(), torch.arange(50).numpy()
    order = ImageOrder([50], seed=0, lanes=2, shuffle_window=20)

    def read(segment):
        rows = slice(segment.start, segment.stop)
        return [{"image": images[rows], "label": labels[rows]}]

    resident = ResidentSource.filled(read(Segment(0, 0, 50)), 50, "cuda")
    feeds = [(Feed(order, read, 8), "cpu"), (Feed(order, read, 8), "cuda"), (Feed(order, read, 8, resident), "cuda")]
    streams = [training_batches({"images": feed}, lanes=range(2), seed=1, device=device) for feed, device in feeds]
    for _ in range(20):
        expected, *others = (next(stream)["images"] for stream in streams)
        for other in others:
            assert torch.equal(other.images.cpu(), expected.images)
            assert torch.equal(other.labels.cpu(), expected.labels)
            assert torch.equal(other.random.integers(1000).cpu(), expected.random.integers(1000))
            expected = replace(expected, random=RowRandom(expected.random.seeds, 4))


def test_a_found_batch_fits_and_the_next_one_does_not():
    free, _ = torch.cuda.mem_get_info()
    bytes_per_image = free // 200  # half of the memory holds 100 images, so 64 fit and 128 do not

    def run(batch):
        torch.empty(batch * bytes_per_image, dtype=torch.uint8, device="cuda")

    assert batch_size(None, 7, run, "cuda") == 64


def test_a_captured_solver_draws_the_same_images(tmp_path):
    file = tmp_path / "network.safetensors"
    form = {"image_size": SIZE, "channels": 3, "num_classes": CLASSES}
    file.write_bytes(generator_file(UVIT, form, trained(UVIT, "cuda")))
    config = SamplingConfig(guidance_scale=0.4, steps=6)
    plain, graphed = (Generator(str(file), "cuda", graphed=graphed) for graphed in (False, True))
    for first in (0, 4):  # the second call replays
        wanted = [(label, number) for label in range(CLASSES) for number in range(first, first + 4)]
        assert (plain.draw(config, 0, wanted).int() - graphed.draw(config, 0, wanted).int()).abs().max() <= 1
