"""Section `stage2`: the generator."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, SerializeAsAny, model_validator

from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.effects import ReadWhen, read_with
from dpt_ray.config.places import Place
from dpt_ray.config.section import Count, Decay, Positive, Section, Share
from dpt_ray.config.training_section import NetworkConfig, OptimizerConfig, Started, with_from
from dpt_ray.plugins import OrPlugin

if TYPE_CHECKING:
    _StartedGenerator = Started
else:
    _StartedGenerator = with_from(
        "Trained generator whose weights network and averages start with, in place of random ones: the folder of a "
        "finished run, of a training or of an export, or a network's file, as `dpt export import-uvit` writes it. "
        "`model`, `process` and the size and channels of images or latents must be those of the weights. With another "
        "number of classes the class embedding starts from random weights. The address holds the checksum of the "
        "weights, not this place."
    )


_UVIT, _DDPMPP = read_with("name", "uvit"), read_with("name", "ddpmpp")


class GeneratorModelConfig(NetworkConfig):
    name: Annotated[Literal["uvit", "ddpmpp"], OrPlugin("networks")] = "uvit"
    """`uvit`: U-ViT, a transformer with skip connections. `ddpmpp`: DDPM++, the convolutional network of EDM."""
    patch_size: Annotated[Count, _UVIT] = 2
    """uvit: height and width in pixels of the patch of one token; it must divide the image's side."""
    dim: Annotated[Count, _UVIT] = 128
    """uvit: width of a token."""
    depth: Annotated[int, Field(ge=2, multiple_of=2), _UVIT] = 4
    """uvit: number of blocks without the middle one; half of them precede it, half follow."""
    heads: Annotated[Count, _UVIT] = 4
    """uvit: number of attention heads; it must divide `dim`."""
    final_conv: Annotated[bool, _UVIT] = True
    """uvit: end with a 3x3 convolution, as in U-ViT-L."""
    bfloat16_stream: Annotated[
        bool, ReadWhen("uvit with bfloat16_stream", lambda model: model.name == "uvit" and model.bfloat16_stream)
    ] = False
    """uvit: with precision bfloat16, keep the tokens between the blocks and their normalisation in bfloat16, too. Half
    as many bytes move on a GPU; it has not been measured on one yet."""
    channels: Annotated[int, Field(ge=8, multiple_of=4), _DDPMPP] = 128
    """ddpmpp: base number of channels."""
    multipliers: Annotated[tuple[Count, ...], Field(min_length=1), _DDPMPP] = (2, 2, 2)
    """ddpmpp: number of channels of each level, as a multiple of `channels`; each level halves the image's sides."""
    blocks: Annotated[Count, _DDPMPP] = 4
    """ddpmpp: number of residual blocks of a level in the encoder; the decoder has one more."""
    attention_sizes: Annotated[tuple[Count, ...], _DDPMPP] = (16,)
    """ddpmpp: sides in pixels of the levels with self-attention; the coarsest level always has it. With
    `space_to_depth` they count squares."""
    space_to_depth: Annotated[
        Count,
        ReadWhen("ddpmpp with space_to_depth", lambda model: model.name == "ddpmpp" and model.space_to_depth > 1),
    ] = 1
    """ddpmpp: side in pixels of the squares that the network reads as one pixel with more channels. 2 takes a quarter
    of the time for the same channels; 1 is the published network."""
    dropout: Annotated[Decay, _DDPMPP] = 0.0
    """ddpmpp: dropout rate in training (EDM on CIFAR-10: 0.13)."""

    @model_validator(mode="after")
    def _consistent(self) -> "GeneratorModelConfig":
        if self.name == "uvit" and self.dim % self.heads:
            raise ValueError(f"heads must divide dim: {self.heads} does not divide {self.dim}")
        if self.name == "uvit" and self.dropout > 0:
            raise ValueError("dropout has an effect with name: ddpmpp alone; set dropout=0")
        return self

    def check_image_size(self, size: int, name: str = "data.image_size") -> None:
        """Refuse an image size that patches or levels do not divide.

        Raises:
            ValueError: the message calls `size`, in pixels, by `name`.
        """
        if self.name == "uvit" and size % self.patch_size:
            raise ValueError(f"stage2.model.patch_size must divide {name}: {self.patch_size} does not divide {size}")
        factor = self.space_to_depth * 2 ** (len(self.multipliers) - 1)
        if self.name == "ddpmpp" and size % factor:
            squares = f" and space_to_depth is {self.space_to_depth}" if self.space_to_depth > 1 else ""
            raise ValueError(
                f"stage2.model.multipliers has {len(self.multipliers)} levels{squares}, so {factor} must divide "
                f"{name}: it does not divide {size}"
            )


_IN_LATENTS = ReadWhen("an autoencoder", lambda latents: latents.autoencoder is not None)


class LatentsConfig(Section):
    """Diffusion in an autoencoder's latents instead of pixels; see `docs/guide/generators.md`."""

    autoencoder: Place | None = None
    """AutoencoderKL or AutoencoderTiny of the diffusers library: the URL of a folder with `config.json` and
    `diffusion_pytorch_model.safetensors`, or a name on the Hugging Face hub, `owner/name` or `owner/name/folder`,
    optionally with `@revision` (a commit, tag or branch). Without it diffusion is in pixels."""
    downsampling: Annotated[Count, _IN_LATENTS] = 8
    """Ratio of the image's side to the latent's. It must be the autoencoder's, and divide `data.image_size`."""
    channels: Annotated[Count, _IN_LATENTS] = 4
    """Number of channels of a latent; it must be the autoencoder's."""
    scale: Annotated[Positive | None, _IN_LATENTS] = None
    """Factor that scales latents to a standard deviation near 1 (Stable Diffusion: 0.18215); the autoencoder's own
    `scaling_factor` by default. A change of it encodes no image again."""
    precision: Annotated[Literal["float32", "bfloat16"], _IN_LATENTS] = "float32"
    """Number format of the autoencoder's computation. `bfloat16` needs a GPU that supports it."""
    storage: Annotated[Literal["float32", "float16"], _IN_LATENTS] = "float32"
    """Number format of the stored means and log-variances; `float16` takes half the space."""


class ConditioningConfig(Section):
    """How the generator is conditioned on labels that may be wrong. The paper passes every pseudo-label unchanged."""

    labels: Literal["most_probable", "drawn"] = "most_probable"
    """`most_probable`: the pseudo-label, as published. `drawn`: a class that is drawn anew at each visit of an image,
    from the `pseudo_labels.top_k` most probable ones in proportion to their probabilities."""
    least_confidence: Share = 0.0
    """An image whose pseudo-label has a lower confidence gets the null label."""
    confidence: bool = False
    """Condition the network on the confidence of each pseudo-label; pseudo images are sampled at confidence 1."""
    true_labels: bool = False
    """Labelled images keep their true labels, with confidence 1, instead of stage 1's predictions."""
    clusters: Count = 1
    """Number of clusters that the images of each class are divided into, by their features in stage 1. The network is
    conditioned on class and cluster. Pseudo images of a class are drawn from its clusters in proportion to their
    images."""

    @property
    def changes_labels(self) -> bool:
        """Whether the labels differ from stage 1's predictions."""
        return self.true_labels or self.least_confidence > 0 or self.clusters > 1

    @model_validator(mode="after")
    def _draws_from_predictions(self) -> "ConditioningConfig":
        if self.labels == "drawn" and self.changes_labels:
            raise ValueError(
                "labels=drawn takes classes as stage 1 predicts them; leave true_labels, least_confidence and clusters "
                "out"
            )
        return self


class PretrainingConfig(Section):
    """A training without labels, with which that on pseudo-labels starts. Runs with other labels share it."""

    images: Annotated[int, Field(ge=0)] = 0
    """Length of the training without labels in images; `stage2.images` follow with pseudo-labels. Its other settings
    are those of stage 2. With 0 there is none, as published."""
    clusters: Annotated[Count, ReadWhen("images above 0", lambda pretraining: pretraining.images > 0)] = 1
    """Number of clusters that all images are divided into, by features that no label reaches: those of the encoder of
    stage 1's probe, otherwise pixels averaged over 8x8 squares. The training without labels is conditioned on them, and
    each class then starts as the mixture of clusters that its images lie in. With 1 every image has the null label.
    Use at least twice as many clusters as classes."""


class GeneratorConfig(_StartedGenerator):
    model: SerializeAsAny[GeneratorModelConfig] = GeneratorModelConfig()
    latents: LatentsConfig = LatentsConfig()
    pretraining: PretrainingConfig = PretrainingConfig()
    conditioning: ConditioningConfig = ConditioningConfig()
    process: Literal["variance_preserving", "discrete_variance_preserving", "edm", "flow_matching"] = (
        "variance_preserving"
    )
    """Noise process and prediction target. `variance_preserving`: noise, at continuous times (the paper's U-ViT-L).
    `discrete_variance_preserving`: noise, at Stable Diffusion's 1000 times (the paper's U-ViT-H). `edm`: EDM's
    preconditioning. `flow_matching`: velocity on the straight line from image to noise."""
    flow_times: Annotated[Literal["uniform", "logit_normal"], read_with("process", "flow_matching")] = "uniform"
    """flow_matching: distribution of times in training. `logit_normal` draws most of them near the middle."""
    loss_weighting: Literal["published", "min_snr", "edm"] = "published"
    """Weight of a noise level in the loss. `published`: 1 on the prediction target, as the process was published.
    `min_snr`: min(SNR, `min_snr_gamma`) on the denoised image, with SNR = 1 / sigma^2. `edm`: EDM's weight on the
    denoised image, which is the published weight of `edm`."""
    min_snr_gamma: Annotated[Positive, read_with("loss_weighting", "min_snr")] = 5.0
    """min_snr: the largest weight."""
    label_dropout: Decay = 0.15
    """Share of training images whose label is replaced by the null label. Classifier-free guidance needs it."""
    flip: bool = True
    """Mirror half of the training images. Latents are then made of every image and of its mirror image."""
    augmentation: Share = 0.0
    """ddpmpp: EDM's non-leaky augmentation (EDM on CIFAR-10: 0.12). It is the probability of each of vertical
    mirroring, scaling, rotation, stretching and shifting of an image; 0 turns it off. The network is conditioned on the
    operations, so that pseudo images do not show them. With `flip`, the same applies to horizontal mirroring."""
    optimizer: OptimizerConfig = OptimizerConfig()
    images: Count = 2_000_000
    """Length of the training in images; repetitions count."""
    batch: Count = 256
    """Number of images in a step, over all workers."""
    ema_decay: Annotated[Decay, ReadWhen("ema_half_life: null", lambda g: g.ema_half_life is None)] = 0.999
    """Decay per step of the averaged weights, which are used for sampling."""
    ema_half_life: Count | None = None
    """Half-life of the averaged weights in images, in place of `ema_decay` (EDM on CIFAR-10: 500,000)."""
    ema_ramp: Positive | None = None
    """With `ema_half_life`: limit of the half-life as a share of the images seen so far (EDM: 0.05). By default there
    is no limit."""
    ema_snapshots: Annotated[int, Field(ge=0)] = 0
    """Number of snapshots, at equal distances up to the end, of two power-function averages. `sampling.ema_width`
    combines them. A snapshot takes twice the network's size of storage. 8 snapshots give widths from 0.06 to 0.12 to
    within 1.3 %."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's computation. `bfloat16`: autocast; weights, losses and statistics stay float32. It
    is for GPUs that support bfloat16 and CPUs with AMX; other CPUs only emulate it."""
    seed: int = 0
    """Together with the run's seed it fixes initial weights, data order and noise."""

    @model_validator(mode="after")
    def _consistent(self) -> "GeneratorConfig":
        if self.augmentation > 0 and self.model.name != "ddpmpp":
            raise ValueError(
                "augmentation needs a network that is conditioned on it; set model.name=ddpmpp or augmentation=0"
            )
        if self.ema_ramp is not None and self.ema_half_life is None:
            raise ValueError("ema_ramp limits ema_half_life, which is not given; give both or neither")
        if self.latents.autoencoder is not None and self.augmentation > 0:
            raise ValueError("augmentation changes pixels, which training on latents never sees; set augmentation=0")
        return self

    @property
    def in_latents(self) -> bool:
        """Whether the network is trained on latents instead of pixels."""
        return self.latents.autoencoder is not None

    def without_labels(self) -> "GeneratorConfig":
        """Return the settings of the training without labels, of which none concerns labels."""
        return self.model_copy(
            update={
                "images": self.pretraining.images,
                "pretraining": PretrainingConfig(),
                "conditioning": ConditioningConfig(),
                "label_dropout": self.label_dropout if self.pretraining.clusters > 1 else 0.0,
                "ema_snapshots": 0,
            }
        )

    def canvas(self, data: DataConfig) -> tuple[int, int]:
        """Return the side and the number of channels of the network's input."""
        if self.in_latents:
            return data.image_size // self.latents.downsampling, self.latents.channels
        return data.image_size, data.channels

    def check_canvas(self, data: DataConfig) -> None:
        """Refuse an image size that the network or the autoencoder does not support.

        Raises:
            ValueError: the message contains the setting to change.
        """
        size, _ = self.canvas(data)
        if not self.in_latents:
            return self.model.check_image_size(size)
        if data.image_size % self.latents.downsampling:
            raise ValueError(
                f"stage2.latents.downsampling must divide data.image_size: {self.latents.downsampling} does not "
                f"divide {data.image_size}"
            )
        return self.model.check_image_size(size, "data.image_size / stage2.latents.downsampling")
