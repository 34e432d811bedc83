"""The paper's two kinds of classifier: a network trained from scratch, or a linear probe on a frozen encoder."""

from dataclasses import replace

from dpt_ray.config.schema import DataConfig, ProbeConfig, PseudoLabelsConfig
from dpt_ray.networks.pretrained.encoders import located
from dpt_ray.pipeline.execution.classifier_stage import ClassifierStage
from dpt_ray.pipeline.execution.prediction_worker import PredictionSettings
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.steps.encode_images import EncodeImages
from dpt_ray.pipeline.steps.fit_probe import FitProbe
from dpt_ray.pipeline.steps.predict import Predictions
from dpt_ray.pipeline.steps.train_classifier import TrainClassifier

Classifier = TrainClassifier | FitProbe


def learn(stage: ClassifierStage, inputs: Inputs) -> Classifier:
    """Return the step that trains a classifier: `FitProbe` for a linear probe, otherwise `TrainClassifier`.

    Raises:
        UserError: an unknown algorithm, a folder without an encoder's files, or weights that training cannot start
            with.
    """
    if stage.config.model.name != "linear_probe":
        start = inputs.classifier_start(stage.name, stage.config, stage.data)
        return TrainClassifier(replace(stage, start=start))
    stage = replace(stage, config=stage.config.model_copy(update={"probe": located(stage.config.probe)}))
    probe, pseudo_images = stage.config.probe, stage.pseudo_images
    encoded = encode(probe, stage.data, stage.train_data, inputs)
    encoded_pseudo = encode(probe, stage.data, pseudo_images, inputs) if pseudo_images is not None else None
    return FitProbe(stage, encoded, encoded_pseudo)


def predict(
    title: str,
    data: DataConfig,
    classifier: Classifier,
    images: Step,
    inputs: Inputs,
    *,
    features: bool = False,
    details: PseudoLabelsConfig | None = None,
    kept: int = 0,
) -> Predictions:
    """Return the step that predicts the class of every image of a set; see `Predictions` and `PredictionSettings`."""
    if isinstance(classifier, FitProbe):
        encoded = encode(classifier.probe, data, images, inputs)
        settings = PredictionSettings(data, features, details, kept=kept)
        transduced = classifier.transduces(images)
        return Predictions(title, settings, classifier, images, encoded, transduced=transduced)
    augmentation = classifier.stage.config.augmentation
    return Predictions(title, PredictionSettings(data, features, details, augmentation, kept), classifier, images)


def encode(probe: ProbeConfig, data: DataConfig, images: Step, inputs: Inputs) -> EncodeImages:
    """Return the step that computes an encoder's features of a set of images; the encoder's place is absolute."""
    return EncodeImages(f"features of {images.title}", probe, data, images, inputs.encoder(probe.encoder))
