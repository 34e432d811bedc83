"""The paper's two kinds of classifier: a network trained from scratch, or a linear probe on a frozen encoder."""

from dataclasses import replace

from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.config.pseudo_data_section import PseudoLabelsConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.networks.pretrained.encoders import located
from dpt_ray.pipeline.execution.classifier_stage import ClassifierStage
from dpt_ray.pipeline.execution.prediction_worker import PredictionSettings
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.steps.encode_images import PIXELS, EncodeImages
from dpt_ray.pipeline.steps.fit_probe import FitProbe
from dpt_ray.pipeline.steps.predict import Predictions
from dpt_ray.pipeline.steps.train_classifier import TrainClassifier
from dpt_ray.pipeline.steps.train_encoder import TrainEncoder

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
    encoded = encode(probe, stage.data, stage.train_data, inputs, stage.encoder)
    encoded_pseudo = None
    if pseudo_images is not None:
        encoded_pseudo = encode(probe, stage.data, pseudo_images, inputs, stage.encoder)
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
        encoded = encode(classifier.probe, data, images, inputs, classifier.encoder)
        settings = PredictionSettings(data, features, details, kept=kept)
        transduced = classifier.transduces(images)
        return Predictions(title, settings, classifier, images, encoded, transduced=transduced)
    settings = PredictionSettings(data, features, details, classifier.stage.config, kept)
    return Predictions(title, settings, classifier, images)


def encode(probe: ProbeConfig, data: DataConfig, images: Step, inputs: Inputs, own: Step | None = None) -> EncodeImages:
    """Return the step that computes an encoder's features of a set of images; the encoder's place is absolute.

    Args:
        probe: the section `probe`.
        data: the section `data`.
        images: makes the images.
        inputs: reads the storage for the description.
        own: trains the encoder of stage 0, which `probe.encoder` may name.
    """
    encoder = own if probe.own_encoder and own is not None else inputs.encoder(probe.encoder)
    return EncodeImages(f"features of {images.title}", probe, data, images, encoder)


def unlabelled_features(config: RunConfig, images: Step, inputs: Inputs, own: Step | None) -> EncodeImages:
    """Return the step that computes features of images that no label reaches.

    They are those of the encoder of stage 1's probe; without a probe, the means of pixels. `own` trains the encoder of
    stage 0.
    """
    stage1 = config.stage1
    if stage1.model.name == "linear_probe":
        return encode(located(stage1.probe), config.data, images, inputs, own)
    return EncodeImages(f"pixels of {images.title}", None, config.data, images, PIXELS)


def own_encoder(config: RunConfig, train_data: Step) -> TrainEncoder | None:
    """Return the step that trains the encoder of stage 0; None if no stage's probe uses it."""
    if not config.has_stage0:
        return None
    return TrainEncoder(config.stage0, config.data, config.seed, train_data)
