"""The paper's two kinds of classifier behind one door: trained from scratch, or a probe on a frozen encoder."""

from dpt_ray.config.schema import ClassifierConfig, DataConfig, ProbeConfig, PseudoLabelsConfig
from dpt_ray.networks.pretrained.encoders import located
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.steps.encode_images import EncodeImages
from dpt_ray.pipeline.steps.fit_probe import FitProbe
from dpt_ray.pipeline.steps.predict import Predictions
from dpt_ray.pipeline.steps.train_classifier import TrainClassifier

Classifier = TrainClassifier | FitProbe


def learn(
    stage: str,
    config: ClassifierConfig,
    data: DataConfig,
    seed: int,
    train_data: Step,
    labelled: Step,
    inputs: Inputs,
    pseudo_images: Step | None = None,
    pseudo_predictions: Step | None = None,
    stage1: Step | None = None,
) -> Classifier:
    """Return the step that learns a stage's classifier; see `TrainClassifier` and `FitProbe`."""
    if config.model.name != "linear_probe":
        return TrainClassifier(
            stage, config, data, seed, train_data, labelled, pseudo_images, pseudo_predictions, stage1
        )
    probe = located(config.probe)
    encoded = _encode(probe, data, train_data, inputs)
    encoded_pseudo = _encode(probe, data, pseudo_images, inputs) if pseudo_images is not None else None
    return FitProbe(stage, probe, train_data, labelled, encoded, pseudo_images, encoded_pseudo)


def predict(
    title: str,
    data: DataConfig,
    classifier: Classifier,
    images: Step,
    inputs: Inputs,
    *,
    features: bool = False,
    details: PseudoLabelsConfig | None = None,
) -> Predictions:
    """Return the step that predicts the class of every image of a set; see `Predictions`."""
    if isinstance(classifier, FitProbe):
        encoded = _encode(classifier.probe, data, images, inputs)
        return Predictions(title, data, classifier, images, features=features, details=details, encoded=encoded)
    augmentation = classifier.augmentation
    return Predictions(title, data, classifier, images, features=features, details=details, augmentation=augmentation)


def _encode(probe: ProbeConfig, data: DataConfig, images: Step, inputs: Inputs) -> EncodeImages:
    return EncodeImages(f"features of {images.title}", probe, data, images, inputs.encoder(probe.encoder))
