"""Stage 2: the class-conditional diffusion model, trained on pseudo-labels alone."""

from functools import partial
from typing import Any

from dpt_ray.config.schema import DataConfig, GeneratorConfig
from dpt_ray.core.build import generator_training
from dpt_ray.data.index import read_index
from dpt_ray.data.networks import generator_file
from dpt_ray.data.source import CONFIDENCE, sidecar_labelled_source
from dpt_ray.pipeline.graph import Step, Workshop
from dpt_ray.pipeline.steps.balanced_labels import BalancedLabels
from dpt_ray.pipeline.steps.conditioning import ConditioningLabels
from dpt_ray.pipeline.steps.data import image_form
from dpt_ray.pipeline.steps.predictions import SIDECARS, Predictions
from dpt_ray.pipeline.steps.training import describe_training, summarise_training, train_network, training_settings


class TrainGenerator(Step):
    """Train a generator on all real images with their pseudo-labels.

    It sees no true label: labelled images too carry the label that stage 1 predicts (the paper's S1), unless
    `stage2.conditioning` says otherwise.

    Args:
        config: the stage's settings.
        data: the form of images and the order's lanes.
        seed: the run's seed.
        train_data: all real training images.
        pseudo_labels: what stage 1 predicts for them, or what was made of that.
    """

    name = "generator"

    def __init__(
        self,
        config: GeneratorConfig,
        data: DataConfig,
        seed: int,
        train_data: Step,
        pseudo_labels: Predictions | BalancedLabels | ConditioningLabels,
    ):
        self._config, self._data, self._seed = config, data, seed
        settings = training_settings(config, data, seed)
        super().__init__("stage 2 generator", settings, {"images": train_data, "pseudo_labels": pseudo_labels})

    def plan(self) -> str:
        return describe_training(self._config.images, self._config.model.name, self._config.process)

    def summary(self, facts: Any) -> str:
        return summarise_training(facts)

    def make(self, workshop: Workshop) -> dict[str, Any]:
        config, data = self._config, self._data
        index = read_index(workshop.parents["images"].url)
        labels = workshop.parents["pseudo_labels"].file(SIDECARS)
        columns = (CONFIDENCE,) if config.conditioning.confidence else ()
        source = sidecar_labelled_source(index, labels, image_form(data), columns)
        description = {"image_size": data.image_size, "channels": data.channels, "num_classes": index.num_classes}
        return train_network(
            workshop,
            data,
            config,
            sources={"images": (source, config.batch)},
            build=partial(
                generator_training,
                config,
                **description,
                seed=self._seed,
                recompute_activations=workshop.cluster.recompute_activations,
            ),
            finish=partial(generator_file, config, description),
            seed=self._seed,
        )
