"""The steps of the classification accuracy score (`evaluation.classification_score`).

A classifier learns from pseudo images alone and is tested on real ones (Ravuri and Vinyals, "Classification Accuracy
Score for Conditional Generative Models", NeurIPS 2019). What pseudo images lack of their classes, it cannot learn.
"""

from dpt_ray.config.classifier_section import AlgorithmConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.pipeline.artifacts.predictions import TOP
from dpt_ray.pipeline.classifier_steps import Classifier, learn, predict
from dpt_ray.pipeline.execution.classifier_stage import ClassifierStage
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.steps.predict import Predictions
from dpt_ray.pipeline.steps.requested_labels import RequestedLabels

TITLE = "classifier on pseudo images alone"


def classification_score(
    config: RunConfig, inputs: Inputs, encoder: Step | None, pseudo_images: Step, test_data: Step, test_name: str
) -> tuple[Classifier | None, Predictions | None]:
    """Return the step that trains the classifier and the one that tests it; None for both without the setting.

    Network, length, augmentation and seed are those of stage 3. The algorithm is supervised, since every pseudo image
    has a label, and the weights are random at the start, since others may have learnt from real images.

    Args:
        config: all settings.
        inputs: reads the storage for the description.
        encoder: trains the encoder of stage 0, for a probe on it; it sees real images, without labels.
        pseudo_images: samples them.
        test_data: indexes the held-out images.
        test_name: their name in messages.

    Raises:
        UserError: as `learn`.
    """
    if not config.evaluation.classification_score:
        return None, None
    alone = config.stage3.model_copy(update={"algorithm": AlgorithmConfig(name="supervised"), "from": None})
    stage = ClassifierStage(
        name="stage3",
        config=alone,
        data=config.data,
        seed=config.seed,
        train_data=pseudo_images,
        labelled=RequestedLabels(pseudo_images),
        encoder=encoder,
        title=TITLE,
    )
    trained = learn(stage, inputs)
    return trained, predict(f"{TITLE}, on {test_name}", config.data, trained, test_data, inputs, kept=TOP)
