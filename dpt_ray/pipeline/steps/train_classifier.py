"""Stages 1 and 3: the semi-supervised classifier, from few labels, then with pseudo images as well."""

from collections.abc import Callable
from functools import partial

from dpt_ray.config.schema import ClassifierConfig, DataConfig
from dpt_ray.core.semi_supervised.algorithms import algorithm_settings
from dpt_ray.core.training.from_settings import classifier_training
from dpt_ray.core.training.state import TrainState
from dpt_ray.data.shards.index import read_index
from dpt_ray.networks.classifier import Classifier, classifier_file
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.pipeline.artifacts.trained_network import (
    CLASSIFIER_TITLES,
    ClassifierFacts,
    describe_training,
    summarise_training,
)
from dpt_ray.pipeline.execution.mixing import PSEUDO_IMAGES, PSEUDO_PREDICTIONS, mix
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.execution.train_network import train_network, training_settings
from dpt_ray.plugins import origin_settings

_START = "start"
"""Role of a parent: the classifier whose weights training begins with."""


class TrainClassifier(Step[ClassifierFacts]):
    """Train a classifier on labelled and unlabelled images.

    Stage 3 is stage 1 from scratch, with pseudo images joined to the labelled ones; the unlabelled
    images are all real ones in both (reference: the paper's CIFAR-10 recipe), unless `config.mixing` says otherwise.

    Args:
        stage: the stage's section in the settings.
        config: the stage's settings.
        data: the form of images and the order's lanes.
        seed: the run's seed.
        train_data: all real training images, labels unseen.
        labelled: which of them are labelled.
        pseudo_images: images of known class from the generator (stage 3).
        pseudo_predictions: what stage 1 sees in them; read if `config.mixing` leaves some out.
        stage1: the classifier to start from, if `config.mixing` says so (stage 3).

    Raises:
        UserError: unknown algorithm, or a setting that it does not have.
    """

    name = "classifier"
    version = 2
    facts_type = ClassifierFacts

    def __init__(
        self,
        stage: str,
        config: ClassifierConfig,
        data: DataConfig,
        seed: int,
        train_data: Step,
        labelled: Step,
        pseudo_images: Step | None = None,
        pseudo_predictions: Step | None = None,
        stage1: Step | None = None,
    ):
        self._config, self._data, self._seed = config, data, seed
        self.augmentation = config.augmentation
        settings = training_settings(config, data, seed)
        algorithm = algorithm_settings(config.algorithm, f"{stage}.algorithm")
        settings["training"]["algorithm"] = {
            "name": config.algorithm.name,
            **origin_settings("algorithms", config.algorithm.name),
            **algorithm.model_dump(mode="json"),
        }
        parents: dict[str, Step] = {"images": train_data, "labelled": labelled}
        if pseudo_images is None:
            del settings["training"]["mixing"]
        else:
            parents[PSEUDO_IMAGES] = pseudo_images
            if config.mixing.only_agreeing and pseudo_predictions is not None:
                parents[PSEUDO_PREDICTIONS] = pseudo_predictions
            if config.mixing.from_stage1 and stage1 is not None:
                parents[_START] = stage1
        super().__init__(CLASSIFIER_TITLES[stage], settings, parents)

    def plan(self) -> str:
        return describe_training(self._config.images, self._config.model.name, self._config.algorithm.name)

    def summary(self, facts: ClassifierFacts) -> str:
        used = facts.pseudo_images_used_per_class
        mixed = f", {sum(used):,} of {facts.pseudo_images:,} pseudo images" if used else ""
        return summarise_training(facts) + mixed

    def make(self, context: StepContext) -> ClassifierFacts:
        config, data = self._config, self._data
        index = read_index(context.parents["images"].url)
        mixed = mix(context, config, data, index)
        unlabelled, _ = mixed.sources.get("unlabelled", (None, 0))
        build = partial(
            classifier_training,
            config,
            channels=data.channels,
            num_classes=index.num_classes,
            num_unlabelled=unlabelled.num_images if unlabelled else 0,
            num_real=mixed.num_real,
            seed=self._seed,
        )
        if _START in context.parents:
            build = partial(_from_weights, context.parents[_START].file(NETWORK_FILE), build)
        finish = partial(classifier_file, config.model, data.channels, index.num_classes)
        trained = train_network(
            context, data, config, sources=mixed.sources, build=build, finish=finish, seed=self._seed
        )
        return ClassifierFacts(**vars(trained), **vars(mixed.facts))


def _from_weights(url: str, build: Callable[[], TrainState]) -> TrainState:
    """Return a training before its first step, with the weights of a trained classifier."""
    weights = Classifier(url).network.state_dict()
    state = build()
    for network in (state.model, state.ema.model):
        network.load_state_dict(weights)
    return state
