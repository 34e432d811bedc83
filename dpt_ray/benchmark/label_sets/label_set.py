"""One label set: pseudo-labels, a generator that starts from the one without labels, pseudo images, and stage 3."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from dpt_ray.benchmark.label_sets.encoded import Encoded, moments_of
from dpt_ray.benchmark.label_sets.label_sets_plan import LabelSetsPlan
from dpt_ray.benchmark.label_sets.without_labels import drawn, form_of, join_generator, read_clusters
from dpt_ray.benchmark.time_to_quality.cifar import Cifar
from dpt_ray.benchmark.time_to_quality.progress_record import Clock, Stage
from dpt_ray.benchmark.time_to_quality.training import Run, go_on
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.core.label_mixtures import LabelMixtures
from dpt_ray.core.metrics.frechet import frechet_distance
from dpt_ray.core.probe.propagation import UNKNOWN
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.data.importing.cifar10_binary import CHANNELS, CLASSES, SIZE
from dpt_ray.data.storage.json_records import Record
from dpt_ray.experiments.study.images_of_each_class import images_of_each_class
from dpt_ray.networks.generator import generator_file
from dpt_ray.networks.start_weights import start_from
from dpt_ray.pipeline.execution.fit_heads import HeadFit, SharedParts, fit_on_features, graph_of_features


@dataclass(frozen=True)
class LabelSetRow(Record):
    """What a label set gave. Accuracies are on the test images.

    Attributes:
        per_class: labelled images of each class.
        seed: of their choice.
        head: of the probes of stages 1 and 3.
        stage1: accuracy of stage 1.
        stage3: accuracy of stage 3, on labelled and pseudo images.
        agreeing: accuracy of stage 3 without pseudo images in which stage 1 sees another class.
        self_trained: accuracy of logistic regression on all real images with their pseudo-labels: the control.
        pseudo_labels: accuracy of the pseudo-labels of unlabelled training images.
        distance: Fréchet distance of the pseudo images in the encoder's features.
        seconds: time of all, s.
    """

    per_class: int
    seed: int
    head: str
    stage1: float
    stage3: float
    agreeing: float
    self_trained: float
    pseudo_labels: float
    distance: float
    seconds: float


class LabelSets:
    """Runs label sets, one after another, with what they share in memory.

    Args:
        run: what all stages share.
        data: CIFAR-10.
        encoded: its images in the encoder's features.
        plan: the settings.
        folder: temporary folder for the generator without labels.

    Raises:
        UserError: the training without labels has not run.
    """

    def __init__(self, run: Run, data: Cifar, encoded: Encoded, plan: LabelSetsPlan, folder: Path):
        # Compiling takes longer than a set, and a set has no scores on its way.
        self._run = replace(run, compiled=False, say=lambda text: None)
        self._data, self._encoded, self._plan = data, encoded, plan
        self._start, self._clusters = join_generator(run.folder, folder), read_clusters(run.folder)
        self._test_labels = data.test_labels.cpu().numpy()
        self._graph: sparse.csr_array | None = None

    def row(self, per_class: int, seed: int, head: str, clock: Clock) -> LabelSetRow | None:
        """Run one label set; return None if time is over before its generator is trained."""
        labels, plan = self._data.labels, self._plan
        given = np.full(len(labels), UNKNOWN)
        chosen = images_of_each_class(labels, per_class, seed)
        given[chosen] = labels[chosen]
        fitted = self._fit(head, self._encoded.train, given, self._shared(head))
        train = self._encoded.train
        found = _classes(fitted, train) if fitted.probabilities is None else fitted.probabilities.argmax(1)
        content = self._trained(f"{per_class} labels, seed {seed}, {head}", found, clock)
        if content is None:
            return None
        images = drawn(self._run, plan, content, CLASSES, plan.pseudo_per_class * CLASSES)
        pseudo = self._encoded.features.of(images)
        wanted = np.arange(len(images)) % CLASSES
        agrees = _classes(fitted, pseudo) == wanted
        learnt = np.where(given == UNKNOWN, found, given)
        return LabelSetRow(
            per_class,
            seed,
            head,
            stage1=self._accuracy(fitted),
            stage3=self._accuracy(self._with_pseudo_images(head, given, pseudo, wanted)),
            agreeing=self._accuracy(self._with_pseudo_images(head, given, pseudo[agrees], wanted[agrees])),
            self_trained=self._accuracy(self._fit("logistic", self._encoded.train, learnt)),
            pseudo_labels=float((found == labels)[given == UNKNOWN].mean()),
            distance=frechet_distance(moments_of(pseudo), self._encoded.moments),
            seconds=round(clock.passed, 1),
        )

    def _shared(self, head: str) -> SharedParts:
        if head == "propagation" and self._graph is None:
            self._graph = graph_of_features(self._encoded.train, ProbeConfig().propagation)
        return SharedParts(graph=self._graph)

    def _fit(self, head: str, features: Tensor, labels: np.ndarray, shared: SharedParts | None = None) -> HeadFit:
        probe = ProbeConfig.model_validate({"head": head})
        return fit_on_features(features, labels, CLASSES, probe, shared, calibrated=False)

    def _with_pseudo_images(self, head: str, given: np.ndarray, pseudo: Tensor, wanted: np.ndarray) -> HeadFit:
        """Fit stage 3: the head on the labelled images, and on pseudo images with the classes asked for."""
        return self._fit(head, torch.cat([self._encoded.train, pseudo]), np.concatenate([given, wanted]))

    def _accuracy(self, fitted: HeadFit) -> float:
        return float((_classes(fitted, self._encoded.test) == self._test_labels).mean())

    def _trained(self, name: str, labels: np.ndarray, clock: Clock) -> bytes | None:
        """Train a generator on pseudo-labels from the one without labels; return its file, None if time is over."""
        config = self._plan.generator.model_copy(update={"images": self._plan.further_images})
        pairs, images = np.unique(np.stack([labels, self._clusters]), axis=1, return_counts=True)
        mixtures = LabelMixtures(pairs[0], pairs[1], images, (CLASSES, self._plan.clusters))
        build = partial(generator_training, config, image_size=SIZE, channels=CHANNELS, num_classes=CLASSES, seed=0)
        state = start_from(self._start, None, build, mixtures)
        sources = {"images": ({"image": self._data.images, "label": labels}, config.batch)}
        stage, steps = Stage(), config.images // config.batch + 1  # no row
        go_on(self._run, name, stage, state, config, sources, clock, lambda state: 0.0, steps, None)
        return generator_file(config, form_of(CLASSES), state) if stage.finished else None


@torch.no_grad()
def _classes(fitted: HeadFit, features: Tensor) -> np.ndarray:
    classes: np.ndarray = fitted.head(features).argmax(1).numpy()
    return classes
