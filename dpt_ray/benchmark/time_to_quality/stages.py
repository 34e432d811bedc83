"""The stages of the run: classifier, contest of generators, generator, pseudo images, and the retrained classifier."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import Tensor

from dpt_ray.benchmark.time_to_quality.cifar import Cifar
from dpt_ray.benchmark.time_to_quality.plan import Plan
from dpt_ray.benchmark.time_to_quality.progress_record import Clock, Row, Stage
from dpt_ray.benchmark.time_to_quality.training import SAVING_SECONDS, Run, go_on
from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.metrics.frechet import GaussianMoments, frechet_distance
from dpt_ray.core.models.network_settings import channel_statistics
from dpt_ray.core.pixels import normalise
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import Description, check_header
from dpt_ray.data.importing.cifar10_binary import CHANNELS, CLASSES, SIZE
from dpt_ray.data.storage import stores
from dpt_ray.networks.classifier import Classifier, classifier_file
from dpt_ray.networks.generator import Generator, generator_file

CLASSIFIER, GENERATOR, RETRAINED = (f"{name}.safetensors" for name in ("classifier", "generator", "retrained"))
"""Names of the files of trained networks."""

STATE = "state_of_"
"""Beginning of the names of the files of trainings."""

IMAGES = "pseudo_images.safetensors"
SCORED_TOGETHER = 1000
"""Images that a classifier sees together."""

FORM: Description = {"kind": "generator", "image_size": SIZE, "channels": CHANNELS, "num_classes": CLASSES}


def train_classifier(run: Run, data: Cifar, plan: Plan, stage: Stage, clock: Clock) -> None:
    """(a) FreeMatch with few labels, until its accuracy stops rising."""
    chosen = data.labelled(plan.labels_per_class)
    labelled = {"image": data.images[chosen], "label": data.labels[chosen]}
    _train_classifier(run, data, plan, stage, clock, plan.stage1, CLASSIFIER, labelled, None)


def retrain(run: Run, data: Cifar, plan: Plan, stage: Stage, clock: Clock) -> None:
    """(d) FreeMatch with the labelled images and the pseudo images together."""
    chosen, made = data.labelled(plan.labels_per_class), _read_images(run)
    images = np.concatenate([data.images[chosen], made])
    labels = np.concatenate([data.labels[chosen], np.arange(len(made)) % CLASSES])
    rows = {"image": images, "label": labels}
    _train_classifier(run, data, plan, stage, clock, plan.stage3, RETRAINED, rows, len(chosen))


def _train_classifier(
    run: Run,
    data: Cifar,
    plan: Plan,
    stage: Stage,
    clock: Clock,
    config: ClassifierConfig,
    name: str,
    labelled: dict[str, np.ndarray],
    num_real: int | None,
) -> None:
    count = len(data.images)
    state = classifier_training(
        config, channels=CHANNELS, num_classes=CLASSES, num_unlabelled=count, num_real=num_real, seed=0
    )
    unlabelled = {"image": data.images, "label": np.full(count, UNKNOWN_LABEL)}  # no label of it can be trained on
    sources = {"labelled": (labelled, config.labelled_batch), "unlabelled": (unlabelled, config.unlabelled_batch)}

    def accuracy(state: TrainState) -> float:
        return _accuracy(state, config, data.test_images, data.test_labels)

    ends, state_name = plan.no_longer_rises, f"{STATE}{name}"
    go_on(run, name, stage, state, config, sources, clock, accuracy, plan.row_steps, state_name, ends)
    run.folder.write(name, classifier_file(config.model, CHANNELS, CLASSES, state))


@torch.inference_mode()
def _accuracy(state: TrainState, config: ClassifierConfig, images: Tensor, labels: Tensor) -> float:
    statistics = channel_statistics(config.model, CHANNELS)
    parts = zip(images.split(SCORED_TOGETHER), labels.split(SCORED_TOGETHER), strict=True)
    right = [(state.ema.model(normalise(x, *statistics)).argmax(1) == y).sum() for x, y in parts]
    return float(torch.stack(right).sum()) / len(labels)


class Generators:
    """Trains generators on stage 1's pseudo-labels, and measures them in the features of its classifier.

    The features are not Inception's, which a lease without a network does not have: distances compare these networks
    with each other, and with nothing else.
    """

    def __init__(self, run: Run, data: Cifar, plan: Plan):
        self._run, self._plan = run, plan
        self._classifier = Classifier(run.folder.require(CLASSIFIER), run.device)
        predicted, real = self._predict(data.images)
        self._rows = {"image": data.images, "label": predicted.argmax(1).numpy()}
        self._real = real

    def contest(self, stage: Stage, clock: Clock) -> None:
        """(b) Train each candidate for the same time, and choose the one of the smallest distance."""
        seconds = clock.left / len(self._plan.candidates)
        for name in self._plan.candidates:
            tried = Stage()
            self._train(name, tried, clock.part(seconds), None)
            stage.rows.append(tried.rows[-1])
            row = tried.rows[-1]
            self._run.say(f"contest: {name}: distance {row.score:.2f} after {row.images:,} images")
        best = int(np.argmin([row.score for row in stage.rows]))
        stage.choice, stage.finished = list(self._plan.candidates)[best], True
        stage.seconds += clock.passed

    def train(self, choice: str, stage: Stage, clock: Clock) -> None:
        """(b) Train the chosen network."""
        stage.choice = choice
        self._train(choice, stage, clock, f"{STATE}{GENERATOR}")

    def _train(self, choice: str, stage: Stage, clock: Clock, state_name: str | None) -> None:
        config = self._plan.candidates[choice]
        state = generator_training(config, image_size=SIZE, channels=CHANNELS, num_classes=CLASSES, seed=0)
        sources = {"images": (self._rows, config.batch)}
        score = partial(self._distance, config)
        every = self._plan.generator_row_steps
        go_on(self._run, choice, stage, state, config, sources, clock, score, every, state_name)
        if not stage.rows or stage.rows[-1].images < state.images_seen:
            stage.rows.append(Row(round(stage.seconds, 1), state.images_seen, score(state)))
        self._run.folder.write(GENERATOR, generator_file(config, FORM, state))

    def _distance(self, config: GeneratorConfig, state: TrainState) -> float:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / GENERATOR
            file.write_bytes(generator_file(config, FORM, state))
            plan = self._plan
            generator = Generator(str(file), self._run.device)
            images = draw(generator, plan.sampling, plan.scored_images, plan.drawn_together)
        return frechet_distance(self._predict(images.numpy())[1], self._real)

    def _predict(self, images: np.ndarray) -> tuple[Tensor, GaussianMoments]:
        """Return the class probabilities of images, and the moments of their features."""
        probabilities, moments = [], None
        for part in torch.from_numpy(images).split(SCORED_TOGETHER):
            found, features = self._classifier(part)
            moments = moments or GaussianMoments(features.shape[1])
            moments.update(features)
            probabilities.append(found)
        assert moments is not None
        return torch.cat(probabilities), moments


def draw(
    generator: Generator, sampling: SamplingConfig, count: int, together: int, num_classes: int = CLASSES
) -> Tensor:
    """Draw images, `together` at a time, uint8 (count, 3, 32, 32); image n is of class n modulo the classes."""
    wanted = [(number % num_classes, number // num_classes) for number in range(count)]
    parts = [wanted[start : start + together] for start in range(0, count, together)]
    return torch.cat([generator.draw(sampling, 0, part) for part in parts])


def sample(run: Run, plan: Plan, stage: Stage, clock: Clock) -> None:
    """(c) Draw the pseudo images."""
    generator = Generator(run.folder.require(GENERATOR), run.device, compiled=run.compiled)
    images = draw(generator, plan.sampling, plan.pseudo_images, plan.drawn_together)
    run.folder.write(IMAGES, save({"images": images.numpy()}))
    stage.seconds += clock.passed
    stage.finished = True
    run.say(f"{plan.pseudo_images:,} pseudo images in {clock.passed:.0f} s")


def _read_images(run: Run) -> np.ndarray:
    content = stores.read_bytes(run.folder.require(IMAGES))
    check_header(content)
    return load(content)["images"]


def enough_time(clock: Clock) -> bool:
    """Whether a further stage may begin in this chunk."""
    return clock.left > 2 * SAVING_SECONDS
