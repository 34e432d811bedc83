"""Stage 0: an encoder that learns from all training images without any label."""

from functools import partial

from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.core.training.from_settings import encoder_training
from dpt_ray.data.loading.source import unlabelled_source
from dpt_ray.data.shards.index import read_index
from dpt_ray.distributed.training_job import HISTORY_FILE
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.own_encoder import encoder_file
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.trained_network import (
    TrainingFacts,
    describe_training,
    read_history_file,
    summarise_training,
)
from dpt_ray.pipeline.execution.result_warnings import collapsed_features
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.execution.train_network import train_network, training_settings


class TrainEncoder(Step[TrainingFacts]):
    """Train an encoder by self-supervision on all training images, labelled ones included.

    No label is read, and no step that chooses labels is a parent. So one encoder serves every set of labels.

    Args:
        config: the section `stage0`.
        data: the section `data`.
        seed: the run's seed.
        train_data: indexes all real training images.
    """

    name = "encoder"
    facts_type = TrainingFacts

    def __init__(self, config: EncoderConfig, data: DataConfig, seed: int, train_data: Step):
        self.config, self._data, self._seed = config, data, seed
        super().__init__("stage 0 encoder", {"images": train_data})

    @property
    def settings(self) -> JsonObject:
        return training_settings(self.config, self._data, self._seed)

    def plan(self) -> str:
        return describe_training(self.config.images, self.config.model.name, self.config.method)

    def summary(self, facts: TrainingFacts) -> str:
        return summarise_training(facts)

    def make(self, context: StepContext) -> TrainingFacts:
        config, data = self.config, self._data
        index = read_index(context.parents["images"].url)
        return train_network(
            context,
            data,
            config,
            sources={"images": (unlabelled_source(index, image_form(data)), config.batch)},
            build=partial(
                encoder_training, config, image_size=data.image_size, channels=data.channels, seed=self._seed
            ),
            finish=partial(encoder_file, config, data.image_size, data.channels),
            seed=self._seed,
        )

    def warnings(self, facts: TrainingFacts, context: StepContext) -> list[str]:
        found = collapsed_features(read_history_file(context.file(HISTORY_FILE)))
        return [found] if found else []
