"""Stages 1 and 3: the semi-supervised classifier, trained on few labels, and in stage 3 on pseudo images too."""

from collections.abc import Callable
from functools import partial

from dpt_ray.core.semi_supervised.algorithms import algorithm_settings
from dpt_ray.core.training.from_settings import classifier_training
from dpt_ray.core.training.state import TrainState
from dpt_ray.data.shards.index import read_index
from dpt_ray.distributed.preview import preview_if_observed
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.classifier import classifier_file
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.start_weights import start_from
from dpt_ray.pipeline.artifacts.trained_network import (
    CLASSIFIER_TITLES,
    ClassifierFacts,
    describe_training,
    summarise_training,
)
from dpt_ray.pipeline.execution.classifier_stage import ClassifierStage
from dpt_ray.pipeline.execution.draw_confusion import draw_confusion, few_shards
from dpt_ray.pipeline.execution.mixing import PSEUDO_IMAGES, PSEUDO_LABELS, PSEUDO_PREDICTIONS, mix
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.execution.train_network import started, train_network, training_settings
from dpt_ray.plugins import origin_settings

_START = "start"
"""Role of a parent: the classifier whose weights training begins with."""


class TrainClassifier(Step[ClassifierFacts]):
    """Train a classifier on labelled and unlabelled images.

    Stage 3 repeats stage 1 from scratch and adds pseudo images to the labelled ones. In both stages the unlabelled
    images are all real images (reference: the paper's CIFAR-10 recipe). The section `mixing` of stage 3 can change
    either.

    Args:
        stage: the stage's settings and parents. `pseudo_predictions` is read with `mixing.only_agreeing`, `stage1` with
            `mixing.from_stage1`, `pseudo_labels` in place of `pseudo_images` with `mixing.images` "real".

    Raises:
        UserError: the algorithm is unknown, or does not have one of the settings.
    """

    name = "classifier"
    version = 3
    facts_type = ClassifierFacts

    def __init__(self, stage: ClassifierStage):
        self.stage = stage
        self._algorithm = algorithm_settings(stage.config.algorithm, f"{stage.name}.algorithm")
        parents: dict[str, Step] = {"images": stage.train_data, "labelled": stage.labelled}
        if stage.pseudo_images is not None:
            if stage.config.mixing.images == "real" and stage.pseudo_labels is not None:
                parents[PSEUDO_LABELS] = stage.pseudo_labels
            else:
                parents[PSEUDO_IMAGES] = stage.pseudo_images
            if stage.config.mixing.only_agreeing and stage.pseudo_predictions is not None:
                parents[PSEUDO_PREDICTIONS] = stage.pseudo_predictions
            if stage.config.mixing.from_stage1 and stage.stage1 is not None:
                parents[_START] = stage.stage1
        self._start = None if _START in parents else stage.start
        super().__init__(stage.title or CLASSIFIER_TITLES[stage.name], parents)

    @property
    def settings(self) -> JsonObject:
        stage = self.stage
        settings = training_settings(stage.config, stage.data, stage.seed)
        name = stage.config.algorithm.name
        algorithm = {"name": name, **origin_settings("algorithms", name), **self._algorithm.model_dump(mode="json")}
        settings["training"]["algorithm"] = algorithm
        if stage.pseudo_images is None:
            del settings["training"]["mixing"]
        if self._start is not None:
            settings["from"] = {"weights": self._start.checksum}
        return settings

    def plan(self) -> str:
        config = self.stage.config
        return describe_training(config.images, config.model.name, config.algorithm.name)

    def summary(self, facts: ClassifierFacts) -> str:
        used = facts.pseudo_images_used_per_class
        mixed = f", {sum(used):,} of {facts.pseudo_images:,} pseudo images" if used else ""
        return summarise_training(facts) + mixed

    def make(self, context: StepContext) -> ClassifierFacts:
        config, data, seed = self.stage.config, self.stage.data, self.stage.seed
        index = read_index(context.parents["images"].url)
        mixed = mix(context, config, data, index)
        unlabelled, _ = mixed.sources.get("unlabelled", (None, 0))
        build: Callable[[], TrainState] = partial(
            classifier_training,
            config,
            channels=data.channels,
            num_classes=index.num_classes,
            num_unlabelled=unlabelled.num_images if unlabelled else 0,
            num_real=mixed.num_real,
            seed=seed,
        )
        if _START in context.parents:
            build = partial(start_from, context.parents[_START].file(NETWORK_FILE), None, build)
        given = mixed.sources["labelled"][0]
        if "pseudo" in mixed.sources:
            given = given + mixed.sources["pseudo"][0]
        draw = partial(draw_confusion, source=few_shards(given), names=index.class_names)
        finish = partial(classifier_file, config.model, data.channels, index.num_classes)
        trained = train_network(
            context,
            data,
            config,
            sources=mixed.sources,
            build=started(context, self._start, index.num_classes, build),
            finish=finish,
            seed=seed,
            preview=preview_if_observed(draw),
        )
        return ClassifierFacts(**vars(trained), **vars(mixed.facts))
