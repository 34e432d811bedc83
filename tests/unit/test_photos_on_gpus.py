"""The recipe's form for GPUs, resolved with a pretended GPU: it is valid, and its first steps train, here on a CPU."""

import pytest
import torch
from importing_data import encoded, write

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.config.shipped import find_config
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.training.compute import keep_channels_last
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.training.step_numbers import StepNumbers
from dpt_ray.core.training.update import StepSettings, update
from dpt_ray.pipeline import run_settings
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.machine import Machine
from dpt_ray.pipeline.run_settings import load_run
from dpt_ray.pipeline.setting_warnings import setting_warnings

CLASSES, ROWS, STEPS = 3, 4, 2


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def config(tmp_path, monkeypatch, request) -> RunConfig:
    monkeypatch.setattr(run_settings, "this_machine", lambda: Machine(16, 1, "a large GPU", request.param))
    monkeypatch.setattr(run_settings, "is_installed", lambda: False)
    names = [f"{name}/{number}" for name in ("a", "b", "c") for number in range(4)]
    folder = write(str(tmp_path / "photos"), {f"{name}.png": encoded(130, 90) for name in names})
    return load_run(find_config("photos"), [f"data.train={folder}", f"root={tmp_path / 'root'}"]).config


def rows(labels: list[int], side: int, seed: int) -> ImageBatch:
    images = torch.randint(256, (len(labels), 3, side, side), generator=torch.Generator().manual_seed(seed))
    return ImageBatch(
        images.to(torch.uint8), torch.tensor(labels), torch.arange(len(labels)), RowRandom(range(len(labels)))
    )


def losses(state: TrainState, stage: ClassifierConfig | GeneratorConfig, batches: dict[str, ImageBatch]) -> list[float]:
    """Do a few steps with the stage's precision and optimizer, and return the loss of each."""
    keep_channels_last(state)
    found = []
    images = sum(len(batch) for batch in batches.values())
    for _ in range(STEPS):
        numbers = StepNumbers.of_step(state, stage.optimizer, images, stage.images, stop=False)
        settings = StepSettings(stage.optimizer.gradient_clip, stage.precision)
        found.append(float(update(state, state.model, batches, settings, numbers).loss))
        state.images_seen += images
    return found


def test_the_form_for_gpus_is_valid_and_its_steps_can_be_built(config):
    assert config.cluster.gpus_per_worker == 1
    assert config.stage1.model.name == config.stage3.model.name == "wide_resnet"
    assert config.stage2.model.name == "uvit"
    assert not [line for line in setting_warnings(config) if "without" not in line]
    assert build(config).steps


def test_the_first_steps_of_the_classifier_train(config):
    stage = config.stage1
    torch.manual_seed(0)
    state = classifier_training(stage, channels=3, num_classes=CLASSES, num_unlabelled=ROWS, seed=0)
    before = {name: parameter.clone() for name, parameter in state.model.named_parameters()}
    side = config.data.image_size
    batches = {
        "labelled": rows([n % CLASSES for n in range(ROWS)], side, 1),
        "unlabelled": rows([UNKNOWN_LABEL] * ROWS, side, 2),
    }
    assert all(map(torch.isfinite, map(torch.tensor, losses(state, stage, batches))))
    moved = [name for name, parameter in state.model.named_parameters() if not torch.equal(before[name], parameter)]
    assert len(moved) > 0.9 * len(before)


def test_the_first_steps_of_the_generator_train(config):
    stage, side = config.stage2, config.data.image_size
    state = generator_training(stage, image_size=side, channels=3, num_classes=CLASSES, seed=0)
    before = {name: parameter.clone() for name, parameter in state.model.named_parameters()}
    batches = {"images": rows([n % CLASSES for n in range(ROWS)], side, 3)}
    assert all(map(torch.isfinite, map(torch.tensor, losses(state, stage, batches))))
    moved = [name for name, parameter in state.model.named_parameters() if not torch.equal(before[name], parameter)]
    assert len(moved) > 0.9 * len(before)
