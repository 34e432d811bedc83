"""Stages 1 and 3: the semi-supervised classifier, from few labels, then with pseudo images as well."""

from functools import partial
from typing import Any

from dpt_ray.config.schema import ClassifierConfig, DataConfig
from dpt_ray.core.build import classifier_training
from dpt_ray.data.index import read_index
from dpt_ray.data.networks import classifier_file
from dpt_ray.data.source import ImageSource, unlabelled_source
from dpt_ray.pipeline.graph import Step, Workshop
from dpt_ray.pipeline.steps.data import image_form
from dpt_ray.pipeline.steps.labels import LabelledSubset, labelled_source
from dpt_ray.pipeline.steps.training import describe_training, summarise_training, train_network, training_settings


class TrainClassifier(Step):
    """Train a classifier on labelled and unlabelled images.

    Stage 3 is stage 1 from scratch, with pseudo images joined to the labelled ones; the unlabelled
    images are all real ones in both (reference: the paper's CIFAR-10 recipe).

    Args:
        title: what to call it.
        config: the stage's settings.
        data: the form of images and the order's lanes.
        seed: the run's seed.
        train_data: all real training images, labels unseen.
        labelled: which of them are labelled.
        pseudo_images: images of known class from the generator (stage 3).
    """

    name = "classifier"

    def __init__(
        self,
        title: str,
        config: ClassifierConfig,
        data: DataConfig,
        seed: int,
        train_data: Step,
        labelled: LabelledSubset,
        pseudo_images: Step | None = None,
    ):
        self._config, self._data, self._seed = config, data, seed
        parents: dict[str, Step] = {"images": train_data, "labelled": labelled}
        if pseudo_images is not None:
            parents["pseudo_images"] = pseudo_images
        super().__init__(title, training_settings(config, data, seed), parents)

    def plan(self) -> str:
        return describe_training(self._config.images, self._config.model.name, self._config.algorithm.name)

    def summary(self, facts: Any) -> str:
        return summarise_training(facts)

    def make(self, workshop: Workshop) -> dict[str, Any]:
        config, data = self._config, self._data
        index = read_index(workshop.parents["images"].url)
        form = image_form(data)
        labelled = labelled_source(workshop.parents["labelled"], index, form)
        if "pseudo_images" in workshop.parents:
            from dpt_ray.pipeline.steps.pseudo_images import pseudo_image_source

            labelled = labelled + pseudo_image_source(workshop.parents["pseudo_images"], form)
        sources: dict[str, tuple[ImageSource, int]] = {"labelled": (labelled, config.labelled_batch)}
        if config.algorithm.name != "supervised":
            sources["unlabelled"] = (unlabelled_source(index, form), config.unlabelled_batch)
        num_classes = index.num_classes
        return train_network(
            workshop,
            data,
            config,
            sources=sources,
            build=partial(
                classifier_training, config, channels=data.channels, num_classes=num_classes, seed=self._seed
            ),
            finish=partial(classifier_file, config.model, data.channels, num_classes),
            seed=self._seed,
        )
