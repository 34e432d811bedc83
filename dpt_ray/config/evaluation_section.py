"""Section `evaluation`."""

from typing import Annotated

from pydantic import Field, model_validator

from dpt_ray.config.effects import ReadWhen
from dpt_ray.config.places import Place
from dpt_ray.config.section import Count, Section

_GENERATION = ReadWhen("generation: true", lambda evaluation: evaluation.generation)
_INCEPTION = ReadWhen("network: inception", lambda evaluation: evaluation.network == "inception")


class EvaluationConfig(Section):
    frechet: bool = True
    """Measure the Fréchet distance of pseudo images in features of the stage-1 classifier."""
    generation: bool = False
    """Measure pseudo images further, in features of `network`: Fréchet distance, kernel distance, precision, recall,
    density, coverage and memorisation."""
    network: Annotated[Place, _GENERATION] = "stage1"
    """Network of these features. `stage1`: the stage-1 classifier. `inception`: Inception-v3 with the weights of
    `inception`, for FID, sFID, KID and inception score. Otherwise a vision transformer, as `probe.encoder` names one;
    with `facebook/dinov2-large` the distance is FD-DINOv2."""
    inception: Annotated[Place | None, _GENERATION, _INCEPTION] = None
    """URL of the weights of Inception-v3, `pt_inception-2015-12-05-6726825d.pth` or its tensors as safetensors. They
    are never fetched by themselves."""
    encoder_size: Annotated[
        Count, _GENERATION, ReadWhen("a vision transformer", lambda e: e.network not in ("stage1", "inception"))
    ] = 224
    """Height and width in pixels to which images are resized (bicubic) for a vision transformer; a multiple of its
    patch size."""
    reference: Annotated[Place | None, _GENERATION] = None
    """URL of reference statistics, a `.npz` file with `mu` and `sigma`, and `mu_s` and `sigma_s` for sFID (the form of
    the ADM evaluator). They replace the training images in Fréchet distances. By default there are none."""
    classification_score: bool = False
    """Train the classifier of stage 3 on pseudo images alone, with the requested classes as labels, and test it on the
    held-out images: the classification accuracy score. It takes about as long as stage 3."""
    sample: Annotated[int, Field(ge=100), _GENERATION] = 10_000
    """Largest number of images of each kind whose features are compared one by one. The draw is fixed. It bounds memory
    and time, which grows with its square."""

    @model_validator(mode="after")
    def _has_weights(self) -> "EvaluationConfig":
        if self.generation and self.network == "inception" and self.inception is None:
            raise ValueError("network=inception needs its weights; set inception to the URL of their file")
        return self

    @property
    def measures_stage1(self) -> bool:
        """Whether `generation` reads features of the stage-1 classifier."""
        return self.generation and self.network == "stage1"

    @property
    def reads_stage1(self) -> bool:
        """Whether stage 1's features of training and pseudo images are read."""
        return self.frechet or self.measures_stage1
