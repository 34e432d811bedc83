"""The settings and the parents that all steps which train a classifier have in common."""

from dataclasses import dataclass

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.networks.start_weights import FoundWeights
from dpt_ray.pipeline.execution.step import Step


@dataclass(frozen=True)
class ClassifierStage:
    """The description of the classifier of one stage.

    Attributes:
        name: name of the stage's section in the settings, `stage1` or `stage3`.
        config: that section.
        data: the section `data`.
        seed: the run's seed.
        train_data: makes the real training images; their labels are not read.
        labelled: chooses the labelled images.
        pseudo_images: draws images of known class from the generator; stage 3 only.
        pseudo_predictions: predicts the classes of the pseudo images with stage 1's classifier; stage 3 only.
        pseudo_labels: makes the pseudo-labels of the real images; stage 3 only.
        stage1: trains the classifier of stage 1; stage 3 only.
        start: the weights that training starts with; None for random ones.
        encoder: trains the encoder of stage 0, for a probe on it.
        title: names the training for people; None for the title of the stage.
    """

    name: str
    config: ClassifierConfig
    data: DataConfig
    seed: int
    train_data: Step
    labelled: Step
    pseudo_images: Step | None = None
    pseudo_predictions: Step | None = None
    pseudo_labels: Step | None = None
    stage1: Step | None = None
    start: FoundWeights | None = None
    encoder: Step | None = None
    title: str | None = None
