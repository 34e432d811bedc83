"""bfloat16 trains as float32 does: loss curves over 500 steps of tiny networks, residual stream and norms included."""

import numpy as np
import pytest
import torch

from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.models.attention import attend
from dpt_ray.core.models.uvit import StreamNorm, UViT
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder

SIZE, CLASSES, BATCH, STEPS, ROW_STEPS = 8, 3, 16, 500, 50


def losses(precision: str, stream: bool, model: GeneratorModelConfig) -> np.ndarray:
    """Return the mean losses of intervals of a training on images whose level tells their class."""
    config = GeneratorConfig(
        model=model.model_copy(update={"bfloat16_stream": stream}),
        batch=BATCH,
        flip=False,
        precision=precision,
        optimizer=OptimizerConfig(name="adam", learning_rate=2e-3),
    )
    labels = np.arange(60) % CLASSES
    images = np.broadcast_to(((labels + 1) * 60)[:, None, None, None], (60, 1, SIZE, SIZE)).astype(np.uint8)

    def read(segment):
        rows = slice(segment.start, segment.stop)
        return [{"image": images[rows], "label": labels[rows]}]

    state = generator_training(config, image_size=SIZE, channels=1, num_classes=CLASSES, seed=0)
    feed = Feed(ImageOrder([60], seed=0, lanes=2, shuffle_window=60), read, BATCH)
    batches = training_batches({"images": feed}, lanes=range(2), seed=0)
    plan = Schedule(STEPS * BATCH, BATCH, ROW_STEPS * BATCH, 1e9)
    train(state, batches, plan, config.optimizer, precision=precision)
    assert {value.dtype for value in state.model.state_dict().values()} == {torch.float32}
    return np.array([row["loss"] for row in state.history])


UVIT = GeneratorModelConfig(patch_size=4, dim=32, depth=2, heads=2)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def in_float32() -> np.ndarray:
    return losses("float32", False, UVIT)


@pytest.mark.parametrize("stream", [False, True], ids=["autocast", "bfloat16 stream"])
def test_the_loss_curve_is_that_of_float32(stream, in_float32):
    found = losses("bfloat16", stream, UVIT)
    assert in_float32[-1] < 0.6 * in_float32[0]  # it learns, so the curves could differ
    np.testing.assert_allclose(found, in_float32, rtol=0.03)


def test_the_stream_is_in_bfloat16_under_autocast_alone():
    network = UViT(
        image_size=8, patch_size=4, in_channels=1, dim=16, depth=2, heads=2, num_classes=3, bfloat16_stream=True
    )
    seen = []
    network.mid_block.register_forward_hook(lambda module, given, output: seen.append((given[0].dtype, output.dtype)))
    x, time, label = torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    network(x, time, label)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(x, time, label)
        network.bfloat16_stream = False
        network(x, time, label)
    assert seen == [(torch.float32,) * 2, (torch.bfloat16,) * 2, (torch.float32,) * 2]


def test_the_norm_of_bfloat16_is_that_of_float32_up_to_rounding():
    norm = StreamNorm(64)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow, wide = norm(x.to(torch.bfloat16)), norm(x)
    assert narrow.dtype == torch.bfloat16
    assert wide.dtype == torch.float32
    torch.testing.assert_close(narrow.float(), wide, rtol=0.01, atol=0.02)


@pytest.mark.parametrize("tokens", [66, 258])
def test_attention_and_its_gradients_are_those_of_float32_up_to_rounding(tokens):
    generator = torch.Generator().manual_seed(0)
    wide = [torch.randn(2, 4, tokens, 16, generator=generator).requires_grad_() for _ in range(3)]
    narrow = [given.detach().to(torch.bfloat16).requires_grad_() for given in wide]
    expected = torch.nn.functional.scaled_dot_product_attention(*wide)
    found = attend(*narrow)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    expected.square().sum().backward()
    found.float().square().sum().backward()
    for exact, rounded in zip(wide, narrow, strict=True):
        torch.testing.assert_close(rounded.grad.float(), exact.grad, rtol=0.05, atol=0.05)
    with torch.no_grad():
        torch.testing.assert_close(attend(*narrow).float(), expected, rtol=0.02, atol=0.02)
