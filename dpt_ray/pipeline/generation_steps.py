"""The steps that measure pseudo images against real ones (`evaluation.generation`)."""

from dataclasses import dataclass

from dpt_ray.config.schema import RunConfig
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.steps.measure_features import MeasureFeatures
from dpt_ray.pipeline.steps.measure_generation import MeasureGeneration


@dataclass(frozen=True)
class SeenByStage1:
    """Stage 1's predictions, with features, for the training, the pseudo and the held-out images."""

    train_data: Step | None
    pseudo_images: Step
    test_data: Step


def measure_generation(
    config: RunConfig, inputs: Inputs, train_data: Step, pseudo_images: Step, test_data: Step, seen: SeenByStage1
) -> MeasureGeneration | None:
    """Return the step that measures pseudo images; None if the settings ask for none.

    Args:
        config: all settings.
        inputs: reads the storage for the description.
        train_data: indexes the training images.
        pseudo_images: makes the pseudo images.
        test_data: indexes the held-out images.
        seen: what stage 1 makes of these images; read if its features are those of the metrics.

    Raises:
        UserError: the network or the reference statistics cannot be read.
    """
    evaluation = config.evaluation
    if not evaluation.generation:
        return None
    network = inputs.metric_network(evaluation)
    reference = inputs.reference(evaluation.reference)

    def measured(title: str, images: Step, predictions: Step | None) -> MeasureFeatures:
        return MeasureFeatures(f"statistics of {title}", evaluation, config.data, images, network, predictions)

    return MeasureGeneration(
        network,
        reference,
        train_data=measured("training images", train_data, seen.train_data),
        pseudo_images=measured("pseudo images", pseudo_images, seen.pseudo_images),
        test_data=measured("held-out images", test_data, seen.test_data),
    )
