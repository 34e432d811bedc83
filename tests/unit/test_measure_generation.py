"""Statistics of shards as workers make them, and the figures that follow from them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_folders import save_msn

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.evaluation_section import EvaluationConfig
from dpt_ray.core.metrics.set_statistics import SetStatistics, decode_statistics, encode_statistics
from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.data.storage import stores
from dpt_ray.distributed.units import UnusableUnitError, shard_units
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.metric_networks import DINOV2_LARGE, MetricNetwork, find_network, open_network
from dpt_ray.networks.reference_statistics import find_reference
from dpt_ray.pipeline.artifacts.feature_statistics import STATISTICS_FILE, StatisticsFacts
from dpt_ray.pipeline.artifacts.generation import generation_metrics
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.execution.statistics_worker import StatisticsPart, StatisticsWorker
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.steps.measure_generation import MeasureGeneration

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8), dtype=np.uint8)


def write_shards(folder: Path, sizes: tuple[int, ...]) -> DatasetIndex:
    folder.mkdir()
    shards, start = [], 0
    for number, size in enumerate(sizes):
        samples = [Sample(f"image{n:03d}", {"png": encode_png(IMAGES[n])}) for n in range(start, start + size)]
        content = build_shard(samples)
        (folder / f"{number}.tar").write_bytes(content)
        shards.append(ShardInfo(str(folder / f"{number}.tar"), len(content), sha256(content), size))
        start += size
    return DatasetIndex(tuple(shards), (start,), "")


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> MetricNetwork:
    folder = save_msn(tmp_path_factory.mktemp("encoder"))
    found = find_network(EvaluationConfig(generation=True, network=folder, encoder_size=8))
    assert found is not None
    return found


def worker(folder: Path, index: DatasetIndex, network: MetricNetwork, batch: int = 7, **options) -> StatisticsWorker:
    given = {"sample": 12, "images": index.num_images, "device": "cpu", "strict": True, **options}
    return StatisticsWorker(network, ImageForm(8, 1), folder=str(folder), batch=batch, **given)


def part(index: DatasetIndex, first: int, stop: int) -> StatisticsPart:
    return StatisticsPart(first, tuple(shard_units(index)[first:stop]))


def test_statistics_do_not_depend_on_shards_and_batches_and_are_those_of_the_network(tmp_path, network):
    one, four = write_shards(tmp_path / "one", (30,)), write_shards(tmp_path / "four", (4, 1, 15, 10))
    whole = worker(tmp_path, one, network, batch=30).make(part(one, 0, 1))
    parts = worker(tmp_path, four, network)
    merged = decode_statistics(parts.make(part(four, 0, 2)), 12)
    merged.merge(decode_statistics(parts.make(part(four, 2, 4)), 12))
    expected = decode_statistics(whole, 12)
    assert merged.images == expected.images == 30
    torch.testing.assert_close(merged.moments.covariance(), expected.moments.covariance(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(merged.sample.features, expected.sample.features, rtol=1e-4, atol=1e-5)
    features = open_network(network, "cpu")(torch.from_numpy(IMAGES)).features
    torch.testing.assert_close(expected.moments.mean, features.double().mean(0), rtol=1e-6, atol=1e-6)
    assert len(expected.sample.features) == 12


def test_a_shard_that_cannot_be_read_ends_the_part_or_is_listed(tmp_path, network):
    index = write_shards(tmp_path / "shards", (10, 10))
    Path(index.shards[1].url).write_bytes(b"another file")
    with pytest.raises(UnusableUnitError):
        worker(tmp_path, index, network).make(part(index, 0, 2))
    tolerant = worker(tmp_path, index, network, strict=False)
    facts = tolerant.facts(part(index, 0, 2), tolerant.make(part(index, 0, 2)))
    assert facts["images"] == 10
    assert [(entry["where"], entry["images"]) for entry in facts["skipped"]] == [(index.shards[1].url, 10)]
    with pytest.raises(UnusableUnitError):
        tolerant.make(part(index, 1, 2))


def test_names_of_networks():
    large = find_network(EvaluationConfig(generation=True, network=DINOV2_LARGE))
    assert large is not None
    assert (large.name, large.space) == (DINOV2_LARGE, "dinov2_large")
    for settings in ({"network": "facebook/dinov2-small"}, {"network": DINOV2_LARGE, "encoder_size": 518}):
        other = find_network(EvaluationConfig(generation=True, **settings))
        assert other is not None
        assert other.space == "other"
    assert find_network(EvaluationConfig(generation=True)) is None


class Given(Step[StatisticsFacts]):
    """A step whose artifact the test writes."""

    name = "statistics"
    facts_type = StatisticsFacts

    @property
    def settings(self) -> JsonObject:
        return {}

    def make(self, context: StepContext) -> StatisticsFacts:
        raise AssertionError


def artifact(root: Path, name: str, features: torch.Tensor) -> Artifact:
    statistics = SetStatistics(features.shape[1], 1000)
    statistics.update([f"{name}{n}" for n in range(len(features))], features)
    store, count = ArtifactStore(str(root)), len(features)
    stores.write_bytes(stores.join(store.folder("statistics", name), STATISTICS_FILE), encode_statistics(statistics))
    facts = StatisticsFacts(images_in=count, images=count, feature_size=features.shape[1], sampled=count)
    return store.commit("statistics", name, {"facts": facts.to_json(), "settings": {}, "seconds": 0.0})


def measure(root: Path, network: MetricNetwork | None, sets: dict[str, torch.Tensor], reference: str | None = None):
    given = {role: Given(role, {}) for role in sets}
    step = MeasureGeneration(network, find_reference(reference) if reference else None, **given)
    parents = {role: artifact(root, role, features) for role, features in sets.items()}
    return step.make(StepContext(str(root / "made"), parents, ClusterConfig(), "generation", TOLERATE_NOTHING))


def normal(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("space", "called", "kernel"),
    [("fid", "FID", "KID"), ("inception", "Fréchet distance", "kernel distance"),
     ("dinov2_large", "FD-DINOv2", "kernel distance"), ("other", "Fréchet distance", "kernel distance")],
)  # fmt: skip
def test_a_distance_is_called_fid_with_the_published_weights_alone(tmp_path, space, called, kernel):
    sets = {"train_data": normal(60, 0), "pseudo_images": normal(50, 1), "test_data": normal(40, 2)}
    facts = measure(tmp_path, MetricNetwork("a network", space, {}), sets)
    figures = {figure.id: figure for figure in generation_metrics(facts)}
    assert figures["generation_distance"].name == called
    assert figures["generation_kernel_distance"].name == kernel
    for figure in figures.values():
        assert "a network" in figure.meaning
    assert "50 pseudo images (the same number of every class) against 60" in figures["generation_distance"].meaning


def test_copies_of_training_images_are_found_and_fresh_ones_are_not(tmp_path):
    train, test = normal(200, 0), normal(100, 1)
    honest = measure(tmp_path / "a", None, {"train_data": train, "pseudo_images": normal(80, 2), "test_data": test})
    copied = measure(tmp_path / "b", None, {"train_data": train, "pseudo_images": train[:80], "test_data": test})
    assert honest.network == "stage 1"
    assert honest.memorisation.interval.low < 0.5 < honest.memorisation.interval.high
    assert copied.memorisation.close_share == 1
    assert copied.memorisation.closer_probability == 1
    assert copied.support.precision == 1
    assert type(honest).from_json(honest.to_json()) == honest


def test_reference_statistics_replace_the_training_images_in_the_distance_alone(tmp_path):
    sets = {"train_data": normal(60, 0), "pseudo_images": normal(50, 1), "test_data": normal(40, 2)}
    pseudo = sets["pseudo_images"].double().numpy()
    np.savez(tmp_path / "r.npz", mu=pseudo.mean(0) + 3, sigma=np.cov(pseudo.T))
    plain, referred = measure(tmp_path / "a", None, sets), measure(tmp_path / "b", None, sets, str(tmp_path / "r.npz"))
    assert referred.distance == pytest.approx(4 * 9, rel=1e-6)
    assert (referred.reference, referred.real_images) == ("r.npz", None)
    assert (referred.support, referred.kernel_distance) == (plain.support, plain.kernel_distance)
    np.savez(tmp_path / "r.npz", mu=np.zeros(9), sigma=np.eye(9))
    with pytest.raises(UserError, match="statistics of 9 features, but the network has 4"):
        measure(tmp_path / "c", None, sets, str(tmp_path / "r.npz"))
