"""Sizes in closed form, against what is really written, read and computed; and the document against the command."""

import json
from pathlib import Path

import pytest
import torch

from dpt_ray.capacity import capacity_document as document
from dpt_ray.capacity import flops as compute
from dpt_ray.capacity import measured
from dpt_ray.capacity import storage_bytes as storage
from dpt_ray.capacity.run_size import size_run
from dpt_ray.capacity.sizes import DataSize
from dpt_ray.config.load import load_config
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.core.models.uvit import UViT
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.data.loading.order import ImageOrder
from dpt_ray.data.loading.prefetch_plan import segment_sequence
from dpt_ray.data.shards.samples import Sample, build_shard

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def digits():
    return load_config("configs/digits.yaml")


def test_the_document_is_what_the_command_writes():
    assert Path("docs/guide/cluster/sizing.md").read_text() == document.render(), (
        f"out of date, run: {document.COMMAND}"
    )


def test_the_measured_rates_are_those_of_the_benchmarks():
    assert json.loads(Path("dpt_ray/capacity/measured.json").read_text()) == measured.collect(
        Path("docs/results/benchmarks")
    ), f"out of date, run: {measured.COMMAND}"


def test_measured_rates_come_back_exactly_and_rise_with_fewer_pixels():
    for rate in measured.read_rates():
        assert measured.read_rate(rate.stored_pixels) == pytest.approx(rate.images_per_second)
    assert measured.read_rate(64) == measured.read_rate(1024)  # not promised to be faster
    assert measured.read_rate(1024) > measured.read_rate(10_000) > measured.read_rate(200_000)
    halfway = (1 / measured.read_rate(1024) + 1 / measured.read_rate(200_000)) / 2
    assert 1 / measured.read_rate((1024 + 200_000) // 2) == pytest.approx(halfway)


@pytest.mark.parametrize("images", [1, 7, 100])
@pytest.mark.parametrize("size", [1, 512, 513, 5000])
def test_a_shard_is_as_long_as_said(images, size):
    samples = [Sample(f"image-{n:05d}", {"jpg": bytes(size), "cls": b"7"}) for n in range(images)]
    assert len(build_shard(samples)) == storage.shard_bytes(images, size)


def tensor_bytes(checkpoint: bytes) -> int:
    """The length of a safetensors file without its header."""
    return len(checkpoint) - 8 - int.from_bytes(checkpoint[:8], "little")


@pytest.mark.parametrize("algorithm", ["freematch", "flexmatch", "softmatch", "supervised"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_classifiers_checkpoint_is_as_long_as_said(algorithm, optimizer):
    settings = [f"stage1.algorithm.name={algorithm}", f"stage1.optimizer.name={optimizer}", "stage1.model.width=8"]
    config = load_config("configs/digits.yaml", settings).stage1
    said = storage.classifier_checkpoint(config, channels=1, num_classes=10, num_unlabelled=77)
    assert said == real_checkpoint(classifier_training(config, channels=1, num_classes=10, num_unlabelled=77, seed=0))


@pytest.mark.parametrize("snapshots", [0, 2])
def test_a_generators_checkpoint_is_as_long_as_said(snapshots):
    config = load_config("configs/digits.yaml", [f"stage2.ema_snapshots={snapshots}"]).stage2
    said = storage.generator_checkpoint(config, size=8, channels=1, num_classes=10)
    assert said == real_checkpoint(generator_training(config, image_size=8, channels=1, num_classes=10, seed=0))


def real_checkpoint(state) -> int:
    """The bytes of the tensors that are written after a step."""
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.optimizer.step()
    return tensor_bytes(state.to_bytes())


def test_a_sum_of_products_costs_two_operations_each():
    with torch.device("meta"):
        assert compute.count_flops(torch.nn.Linear(30, 50, bias=False), torch.zeros(7, 30)) == 2 * 7 * 30 * 50
        convolution = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
        assert compute.count_flops(convolution, torch.zeros(1, 3, 8, 8)) == 2 * 8 * 8 * 5 * 3 * 9


def test_the_counter_finds_the_published_133_gflops_of_uvit_h2():
    """Bao et al. 2023, table 2, where a multiply-add is one operation; attention's are among ours."""
    with torch.device("meta"):
        model = UViT(
            image_size=32, patch_size=2, in_channels=4, dim=1152, depth=28, heads=16, num_classes=1000, final_conv=False
        )
        counted = compute.count_flops(model, torch.zeros(1, 4, 32, 32), torch.ones(1), torch.zeros(1, dtype=torch.long))
    assert counted / 2 == pytest.approx(133e9, rel=0.03)


def test_an_encoders_operations_are_those_of_its_matrices():
    tokens, width, depth, patch = 1025, 1024, 24, 7
    layers = 2 * tokens * (width * 3 * width + width * width + 2 * width * 4 * width)  # queries to values, out, MLP
    attention = 2 * 2 * tokens * tokens * width
    patches = 2 * (tokens - 1) * 3 * patch**2 * width
    probe = ProbeConfig(encoder="facebook/vit-msn-large-7")
    assert compute.encoder_flops(probe) == depth * (layers + attention) + patches


@pytest.mark.parametrize(("shards", "window"), [(64, 4096), (64, 16384), (32, 8192)])
def test_shards_are_fetched_as_often_as_said(shards, window):
    """Counted in the reader's own plan, over whole epochs."""
    lanes, per_shard = 8, 1000
    order = ImageOrder([per_shard] * shards, seed=1, lanes=lanes, shuffle_window=window)
    epochs, images = 4, shards * per_shard
    steps = epochs * images // (lanes * 8)
    segments = list(segment_sequence(order, range(lanes), 8, 0, steps))
    fetched = len(segments) / sum(map(len, segments))
    assert storage.fetches_per_image(per_shard, lanes, window) == pytest.approx(fetched, rel=0.15)


def test_kept_sources_lie_in_the_object_store_and_streams_have_their_share():
    gib = 2**30
    assert storage.object_store_bytes([gib], 0) == gib
    assert storage.object_store_bytes([], 2) == 5 * gib  # two streams of a GiB are 0.4 of it
    assert storage.object_store_bytes([8 * gib], 1) == 9 * gib


def test_hours_readers_and_requests_follow_from_images_and_rates():
    settings = ["data.train=a", "data.test=b", "stage2.images=300000000"]
    config = load_config("configs/sizing/hundred_million.yaml", settings)
    data = DataSize(1_000_000, 110_000, 500 * 400, 1_000, 1_000)
    size = size_run(config, data)
    stage = next(stage for stage in size.stages if stage.name == "stage 2")
    assert stage.gpu_hours == pytest.approx(config.stage2.images / stage.images_per_second / 3600)
    assert stage.readers == pytest.approx(stage.images_per_second / measured.read_rate(200_000))
    assert stage.requests == pytest.approx(stage.images_per_second * (1 / 1000 + 8 / 4096))
    assert stage.bytes_per_second == pytest.approx(stage.images_per_second * storage.shard_bytes(1000, 110_000) / 1000)
    assert size.shards == 1000 * storage.shard_bytes(1000, 110_000)
    twice = size_run(load_config("configs/sizing/hundred_million.yaml", [*settings, "stage2.images=600000000"]), data)
    assert twice.gpu_hours - size.gpu_hours == pytest.approx(stage.gpu_hours)
    assert [s.name for s in size.stages] == ["encoding", "stage 2", "pseudo images", "encoding pseudo images"]


def test_a_generator_of_latents_is_sized_by_them():
    config = load_config("configs/imagenet256_l.yaml", ["data.train=a", "data.test=b"])
    data = DataSize(1_000_000, 110_000, 500 * 400, 1_000, 1_000)
    size = size_run(config, data)
    stages = {stage.name: stage for stage in size.stages}
    assert list(stages) == [
        "encoding", "encoding latents", "stage 2", "pseudo images", "decoding latents", "encoding pseudo images",
    ]  # fmt: skip
    assert storage.latent_bytes(config.stage2, config.data) == 65_536
    training = stages["stage 2"]
    # 258 tokens in 21 blocks of 24 T D^2 + 4 T^2 D each, and ten merges of 4 T D^2
    tokens, width = 258, 1024
    forward = 21 * (24 * tokens * width**2 + 4 * tokens**2 * width) + 10 * 4 * tokens * width**2
    generate = compute.generator_flops(config.stage2, size=32, channels=4, num_classes=1000)
    assert generate == pytest.approx(forward, rel=0.02)
    assert training.images_per_second == pytest.approx(compute.rate(3 * generate, "uvit", "bfloat16"))
    assert training.bytes_per_second == pytest.approx(training.images_per_second * 65_536)
    assert stages["encoding latents"].gpu_hours == pytest.approx(
        1_000_000 * 2 * 256**2 * compute.ENCODE_FLOPS_PER_PIXEL / (67e12 * 0.5) / 3600
    )
    pixels = load_config("configs/imagenet256_l.yaml", ["data.train=a", "data.test=b", "stage2.flip=false"])
    assert size.results - size_run(pixels, data).results == 1_000_000 * 32_768


def test_a_small_training_set_is_kept_and_needs_no_readers(digits):
    size = size_run(digits, DataSize(1438, 130, 64, 250, 10))
    training = [stage for stage in size.stages if stage.checkpoint]
    assert [stage.name for stage in training] == ["stage 1", "stage 2", "stage 3"]
    assert not any(stage.streams or stage.readers or stage.requests for stage in training)
    streamed = load_config("configs/digits.yaml", ["cluster.keep_mib=0"])
    assert all(s.readers > 0 for s in size_run(streamed, DataSize(1438, 130, 64, 250, 10)).stages if s.checkpoint)


def test_a_freematch_step_computes_unlabelled_images_twice(digits):
    assert compute.classifier_step_views(digits.stage1) == 32 + 2 * 128
    assert compute.training_flops_per_image(digits.stage1, 160) == 3 * 160 * (32 + 2 * 128) / 160
