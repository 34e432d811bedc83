"""Scores of networks on their way."""

import torch
from test_validation_split import Given, make

from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.read_rows import new_arrays, read_rows
from dpt_ray.data.loading.source import IMAGE, LABEL, SourceShard
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecars import encode_sidecar, read_sidecar
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.experiments import evaluators as judges
from dpt_ray.experiments.evaluators import PseudoImageDistance, ValidationAccuracy, without_snapshots
from dpt_ray.networks.classifier import Classifier, classifier_file
from dpt_ray.networks.files import open_content
from dpt_ray.networks.generator import Generator, generator_file
from dpt_ray.pipeline.artifacts.features import FEATURES

FORM = ImageForm(8, 1)


def _classifier() -> bytes:
    config = load_config(None, ["preset=digits", "stage1.model.width=4"]).stage1
    state = classifier_training(config, channels=1, num_classes=3, num_unlabelled=9, num_real=None, seed=0)
    return classifier_file(config.model, 1, 3, state)


def test_the_accuracy_is_that_of_the_network_on_the_images(tmp_path):
    (data,) = make(tmp_path, Given([10, 13], unusable=[1]))
    network = _classifier()
    stores.write_bytes(str(tmp_path / "n.safetensors"), network)
    classifier, index, right, total = Classifier(str(tmp_path / "n.safetensors")), read_index(data.url), 0, 0
    for position, shard in enumerate(index.shards):
        true = torch.tensor(read_sidecar(index.label_sidecar(position), [LABEL])[LABEL])
        (rows,) = read_rows(SourceShard(shard), range(shard.samples), FORM, new_arrays(FORM, 100))
        right += int((classifier(torch.from_numpy(rows[IMAGE]))[0].argmax(1) == true).sum())
        total += shard.samples
    judge = ValidationAccuracy(data.url, FORM, most=1000)
    assert judge(network) == right / total
    assert judge(network) == right / total


def test_no_more_images_are_read_than_asked_for(tmp_path):
    (data,) = make(tmp_path, Given([30, 31]))
    judge = ValidationAccuracy(data.url, FORM, most=20)
    images, labels = judge._read_images()
    assert len(images) == len(labels) == 20
    assert set(labels.tolist()) == {0, 1, 2}


def test_the_images_are_those_of_some_shards_where_there_are_many(tmp_path, monkeypatch):
    (data,) = make(tmp_path, Given([4] * 9))
    monkeypatch.setattr(judges, "MOST_SHARDS", 5)
    read = []
    monkeypatch.setattr(judges, "read_sidecar", lambda url, columns: read.append(url) or read_sidecar(url, columns))
    judge = ValidationAccuracy(data.url, FORM, most=1000)
    assert len(judge._read_images()[1]) == 20
    assert len(read) == 5
    assert len(set(read) & set(map(read_index(data.url).label_sidecar, range(5)))) < 5  # not the first ones
    assert judges._some_shards(3) == [0, 1, 2]


def test_a_generator_that_draws_real_images_scores_best(tmp_path, monkeypatch):
    file = str(tmp_path / "n.safetensors")
    stores.write_bytes(file, _classifier())
    real = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = Classifier(file)(real)[1].numpy()
    sidecar = str(tmp_path / "real.parquet")
    stores.write_bytes(sidecar, encode_sidecar([str(n) for n in range(60)], {FEATURES: features}))

    class Drawing:
        """Draws the real images, made darker by a share."""

        num_classes = 3

        def __init__(self, darker: float):
            self._darker = darker

        def draw(self, config, seed, wanted):
            rows = [number * self.num_classes + label for label, number in wanted]
            return (real[rows].float() * (1 - self._darker)).to(torch.uint8)

    class Diverged(Drawing):
        def draw(self, config, seed, wanted):
            raise UserError("images are not finite")

    def score(darker: float) -> float:
        monkeypatch.setattr(judges, "open_content", lambda kind, network: Drawing(darker))
        return PseudoImageDistance(file, [sidecar], SamplingConfig(), 0, per_class=20)(b"")

    assert abs(score(0.0)) < 1e-3
    assert score(0.0) > score(0.3) > score(0.9)

    monkeypatch.setattr(judges, "open_content", lambda kind, network: Diverged(0.0))
    assert PseudoImageDistance(file, [sidecar], SamplingConfig(), 0, per_class=20)(b"") < score(0.9)


def test_a_network_on_its_way_is_drawn_from_without_its_snapshots():
    model = {"name": "ddpmpp", "channels": 8, "multipliers": [1, 1], "blocks": 1}
    config = GeneratorConfig.model_validate({"model": model, "process": "edm", "ema_snapshots": 4})
    form = {"image_size": 8, "channels": 1, "num_classes": 3}
    network = open_content(Generator, generator_file(config, form, generator_training(config, **form, seed=0)))
    wanted = [(0, 0), (1, 3)]
    few = SamplingConfig(steps=2, guidance_scale=0)
    told = few.model_copy(update={"guidance_method": "autoguidance", "guidance_scale": 1.0, "ema_width": 0.1})
    assert torch.equal(network.draw(without_snapshots(told), 0, wanted), network.draw(few, 0, wanted))
    assert without_snapshots(SamplingConfig()) == SamplingConfig()
